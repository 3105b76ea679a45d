#include "launch/data/tokenizer.h"

#include "core/base/error.h"

namespace witan {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr std::int32_t kEndOfDocument = 256;

  std::string name() const override { return "byte"; }
  std::int64_t vocab_size() const override { return kEndOfDocument + 1; }
  std::int32_t end_of_document() const override { return kEndOfDocument; }

  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override {
    const std::size_t begin = ids.size();
    ids.resize(begin + text.size());
    for (std::size_t i = 0; i < text.size(); ++i)
      ids[begin + i] = static_cast<unsigned char>(text[i]);
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (const std::int32_t id : ids)
      if (bytes(id) == 1) text.push_back(static_cast<char>(id));
    return text;
  }

  std::int64_t bytes(std::int32_t id) const override { return id >= 0 && id < 256 ? 1 : 0; }
};

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
  if (name == "byte") return std::make_unique<ByteTokenizer>();
  throw_user_error("unknown tokenizer \"", name, "\"; known: byte");
}

}  // namespace witan
