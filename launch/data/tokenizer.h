// Text <-> token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace witan {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string name() const = 0;         // "byte"
  virtual std::int64_t vocab_size() const = 0;  // 257
  virtual std::int32_t end_of_document() const = 0;
  // Appends the ids of `text`; thread-safe.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  // End-of-document and unknown ids decode to nothing.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
  // Bytes of text a token stands for (for nats per byte).
  virtual std::int64_t bytes(std::int32_t id) const = 0;
};

// "byte": ids 0 .. 255 are bytes, 256 is end-of-document. Unknown names are a UserError that lists
// the known ones.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name);

}  // namespace witan
