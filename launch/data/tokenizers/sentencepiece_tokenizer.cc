#include "launch/data/tokenizers/sentencepiece_tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <utility>

#include "core/base/error.h"
#include "launch/data/tokenizers/process.h"
#include "launch/data/tokenizers/read_file.h"
#include "launch/data/tokenizers/sentencepiece.pb.h"

namespace witan {
namespace {

constexpr const char* kPackage = "SentencePiece (Debian package sentencepiece)";

using sentencepiece::Piece;

// How many bytes of text a piece stands for; U+2581 is a space.
std::int64_t bytes_of(const Piece& piece) {
  constexpr std::string_view kSpace = "\u2581";
  if (piece.type() == Piece::BYTE) return 1;
  if (piece.type() != Piece::NORMAL && piece.type() != Piece::USER_DEFINED) return 0;
  std::int64_t bytes = std::ssize(piece.piece());
  for (std::size_t at = 0; (at = piece.piece().find(kSpace, at)) != std::string::npos; ++at) {
    bytes -= std::ssize(kSpace) - 1;
  }
  return bytes;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::string& path) : path_(path) {
    files_.push_back({"tokenizer.model", read_tokenizer_file(path)});
    const std::string& content = files_[0].content;
    sentencepiece::Model model;
    if (!model.ParseFromString(content) || model.pieces().empty()) {
      throw_user_error(path, ": not a SentencePiece model");
    }
    for (const Piece& piece : model.pieces()) {
      if (piece.type() == Piece::BYTE && piece.piece() == "<0x0A>") {
        line_feed_ = static_cast<std::int32_t>(bytes_.size());
      }
      bytes_.push_back(bytes_of(piece));
    }
    const std::int32_t eos = model.trainer_spec().eos_id();
    end_of_document_ = eos < std::ssize(bytes_) ? std::max(eos, -1) : -1;
    char name[40];
    std::snprintf(name, sizeof name, "sentencepiece-%016" PRIx64,
                  static_cast<std::uint64_t>(XXH3_64bits(content.data(), content.size())));
    name_ = name;
  }

  std::string name() const override { return name_; }
  std::int64_t vocab_size() const override { return std::ssize(bytes_); }
  std::int32_t end_of_document() const override { return end_of_document_; }
  std::span<const TokenizerFile> files() const override { return files_; }
  std::int64_t bytes(std::int32_t id) const override {
    return id >= 0 && id < std::ssize(bytes_) ? bytes_[static_cast<std::size_t>(id)] : 0;
  }

  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override {
    std::vector<std::size_t> ends;
    encode_each(std::span(&text, 1), ids, ends);
  }

  void encode_each(std::span<const std::string_view> texts, std::vector<std::int32_t>& ids,
                   std::vector<std::size_t>& ends) const override {
    std::string lines;
    for (const std::string_view text : texts) lines.append(text).append(1, '\n');
    const std::string output =
        run_filter({"spm_encode", "--model=" + path_, "--output_format=id"}, lines, kPackage);
    const char* at = output.data();
    for (const std::string_view text : texts) {
      const auto line_feeds = std::count(text.begin(), text.end(), '\n');
      for (std::ptrdiff_t line = 0; line <= line_feeds; ++line) {
        if (line > 0 && line_feed_ >= 0) ids.push_back(line_feed_);
        at = read_line(at, output.data() + output.size(), ids);
      }
      ends.push_back(ids.size());
    }
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string line;
    for (const std::int32_t id : ids) {
      if (bytes(id) > 0) line += (line.empty() ? "" : " ") + std::to_string(id);
    }
    if (line.empty()) return line;
    std::string text =
        run_filter({"spm_decode", "--model=" + path_, "--input_format=id"}, line + "\n", kPackage);
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

  std::size_t first_cut(std::string_view text) const override {
    return inside(text, text.find('\n'));
  }
  std::size_t last_cut(std::string_view text) const override {
    if (text.size() < 2) return std::string_view::npos;
    return inside(text, text.rfind('\n', text.size() - 2));
  }

 private:
  // A cut goes behind a line feed: the empty line in front of it has no ids.
  static std::size_t inside(std::string_view text, std::size_t line_feed) {
    if (line_feed == std::string_view::npos || line_feed + 1 >= text.size()) {
      return std::string_view::npos;
    }
    return line_feed + 1;
  }

  // Appends the ids of one line of output; where the next one begins.
  const char* read_line(const char* at, const char* end, std::vector<std::int32_t>& ids) const {
    while (at < end && *at != '\n') {
      if (*at == ' ') {
        ++at;
        continue;
      }
      std::int32_t id = 0;
      const auto [behind, error] = std::from_chars(at, end, id);
      WITAN_CHECK(error == std::errc(), "spm_encode wrote something that is no token id");
      ids.push_back(id);
      at = behind;
    }
    WITAN_CHECK(at < end, "spm_encode wrote fewer lines than it read");
    return at + 1;
  }

  std::string path_, name_;
  std::vector<TokenizerFile> files_;
  std::vector<std::int64_t> bytes_;  // by id
  std::int32_t line_feed_ = -1;
  std::int32_t end_of_document_ = -1;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& path) {
  return std::make_unique<SentencePieceTokenizer>(path);
}

}  // namespace witan
