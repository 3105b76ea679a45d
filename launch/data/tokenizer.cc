#include "launch/data/tokenizer.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "core/base/error.h"
#include "launch/data/tokenizers/bpe_tokenizer.h"
#include "launch/data/tokenizers/sentencepiece_tokenizer.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr std::int32_t kEndOfDocument = 256;

  std::string name() const override { return "byte"; }
  std::int64_t vocab_size() const override { return kEndOfDocument + 1; }
  std::int32_t end_of_document() const override { return kEndOfDocument; }
  std::span<const TokenizerFile> files() const override { return {}; }

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

  std::size_t first_cut(std::string_view text) const override {
    return text.size() > 1 ? 1 : std::string_view::npos;
  }
  std::size_t last_cut(std::string_view text) const override {
    return text.size() > 1 ? text.size() - 1 : std::string_view::npos;
  }
};

// The names under which a folder may hold each kind.
constexpr const char* kTokenizerJson = "tokenizer.json";
constexpr const char* kSentencePiece = "tokenizer.model";
constexpr std::array<std::array<const char*, 2>, 2> kVocabAndMerges = {
    {{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}};

bool is_there(const fs::path& path) {
  std::error_code unknown;
  return fs::is_regular_file(path, unknown);
}

std::unique_ptr<Tokenizer> of_tokenizer_json(const fs::path& path) {
  return make_bpe_tokenizer(read_tokenizer_json(path.string()));
}

// A vocabulary or a tokenizer.json: the latter has no merges beside it.
std::unique_ptr<Tokenizer> of_json_file(const fs::path& path) {
  for (const auto& [vocab, merges] : kVocabAndMerges) {
    const fs::path beside = path.parent_path() / merges;
    if (path.filename() != vocab) continue;
    if (is_there(beside)) {
      return make_bpe_tokenizer(read_vocab_and_merges(path.string(), beside.string()));
    }
    throw_user_error(path.string(), ": there is no ", merges, " beside it");
  }
  return of_tokenizer_json(path);
}

std::unique_ptr<Tokenizer> of_folder(const fs::path& folder) {
  const fs::path model = folder / kSentencePiece;
  if (is_there(folder / kTokenizerJson)) {
    if (!is_there(model)) return of_tokenizer_json(folder / kTokenizerJson);
    // Both describe the same tokenizer; what is no byte-level BPE in one is SentencePiece's.
    try {
      return of_tokenizer_json(folder / kTokenizerJson);
    } catch (const UserError&) {
      return make_sentencepiece_tokenizer(model.string());
    }
  }
  for (const auto& [vocab, merges] : kVocabAndMerges) {
    if (is_there(folder / vocab)) return of_json_file(folder / vocab);
  }
  if (is_there(model)) return make_sentencepiece_tokenizer(model.string());
  throw_user_error(folder.string(), ": no tokenizer here: expected ", kTokenizerJson,
                   ", vocab.json with merges.txt, or ", kSentencePiece);
}

}  // namespace

void Tokenizer::encode_each(std::span<const std::string_view> texts, std::vector<std::int32_t>& ids,
                            std::vector<std::size_t>& ends) const {
  for (const std::string_view text : texts) {
    encode(text, ids);
    ends.push_back(ids.size());
  }
}

bool has_tokenizer_files(const std::string& folder) {
  const fs::path path = folder;
  return is_there(path / kTokenizerJson) || is_there(path / kSentencePiece) ||
         std::any_of(kVocabAndMerges.begin(), kVocabAndMerges.end(),
                     [&](const auto& names) { return is_there(path / names[0]); });
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
  if (name == "byte") return std::make_unique<ByteTokenizer>();
  const fs::path path = name;
  std::error_code unknown;
  if (fs::is_directory(path, unknown)) return of_folder(path);
  if (is_there(path)) {
    if (path.extension() == ".model") return make_sentencepiece_tokenizer(name);
    if (path.extension() == ".json") return of_json_file(path);
    throw_user_error(name, ": expected a tokenizer.json, vocab.json or *.model, or their folder");
  }
  throw_user_error("unknown tokenizer \"", name,
                   "\"; expected byte, or the path of a tokenizer.json, of a vocab.json with "
                   "merges.txt beside it, of a SentencePiece *.model, or of their folder");
}

}  // namespace witan
