// Tokens in one file, as llm.c and nanoGPT keep them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "launch/data/mapped_file.h"
#include "launch/data/token_source.h"

namespace witan {

// Little endian, read by mmap. Checked when opened (UserError: file and what is wrong): size and
// header.
class TokenFile final : public TokenSource {
 public:
  enum class Format {
    // 256 int32: magic, version, number of tokens, then nothing of interest; behind it the tokens,
    // uint16 (magic 20240520, version 1: GPT-2) or uint32 (20240801, 7: Llama 3).
    kLlmC,
    kRawUint16,  // tokens alone
    kRawUint32
  };
  TokenFile(const std::string& path, Format format);

  std::int64_t tokens() const override { return tokens_; }
  int bytes_per_token() const { return width_; }
  void read(std::int64_t begin, std::span<std::int32_t> out, std::int64_t vocab) const override;

 private:
  void read_llm_c_header();
  void check_raw();

  std::string path_;
  MappedFile file_;
  std::size_t data_begin_ = 0;
  int width_ = 2;
  std::int64_t tokens_ = 0;
};

}  // namespace witan
