// Text <-> token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace witan {

// A file from which make_tokenizer() makes the same tokenizer again, under the name that Hugging
// Face gives it.
struct TokenizerFile {
  std::string name, content;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // What it is: "byte", or a kind and a checksum of its files ("bpe-90c2f41d7e5b6a38"). Two
  // tokenizers of one name make the same ids of every text.
  virtual std::string name() const = 0;
  virtual std::int64_t vocab_size() const = 0;  // the largest id + 1
  // -1 if its files name none.
  virtual std::int32_t end_of_document() const = 0;
  // What stands in front of every text: a beginning-of-text token where its files ask for one.
  virtual std::span<const std::int32_t> text_begin() const { return {}; }
  // Appends the ids of `text`, without text_begin and end-of-document; thread-safe.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  // The same for many texts, which some tokenizers do faster at a time; `ends` gets the size of
  // `ids` behind each.
  virtual void encode_each(std::span<const std::string_view> texts, std::vector<std::int32_t>& ids,
                           std::vector<std::size_t>& ends) const;
  // End-of-document, other special tokens and unknown ids decode to nothing.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
  // Bytes of text a token stands for (for nats per byte).
  virtual std::int64_t bytes(std::int32_t id) const = 0;

  // Where a long text may be divided: encode(text) is encode(text[0, cut)), then encode(text[cut,
  // end)). The first and the last such place in 1 .. text.size() - 1; npos if there is none.
  virtual std::size_t first_cut(std::string_view text) const = 0;
  virtual std::size_t last_cut(std::string_view text) const = 0;

  // Empty where the name says all.
  virtual std::span<const TokenizerFile> files() const = 0;
};

// "byte": ids 0 .. 255 are bytes, 256 is end-of-document. Else the path of a tokenizer's file or of
// a folder that holds it:
//   tokenizer.json                          byte-level BPE (GPT-2, Llama 3, Qwen, OLMoE, DeepSeek)
//   vocab.json with merges.txt beside it    the same in GPT-2's files (also encoder.json,
//   vocab.bpe) tokenizer.model, *.model                SentencePiece, run by its own programs
//   spm_encode and
//                                           spm_decode
// UserError: no such name or file, or something in it that is not supported (named).
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name);

// Whether a folder holds one of the files above (readable or not).
bool has_tokenizer_files(const std::string& folder);

}  // namespace witan
