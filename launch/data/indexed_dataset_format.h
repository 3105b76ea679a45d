// The layout of Megatron-LM's PREFIX.idx, little endian, without padding:
//   magic "MMIDIDX\0\0" (9 bytes), version uint64 = 1, token type uint8,
//   sequences uint64, document marks uint64 (= documents + 1),
//   length of each sequence int32 [sequences], in tokens,
//   offset of each sequence in PREFIX.bin int64 [sequences], in bytes,
//   document marks int64 [documents + 1]: index of the first sequence of each document, then the
//   number of sequences.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace witan::indexed_dataset {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

inline constexpr std::string_view kMagic{"MMIDIDX\0\0", 9};
inline constexpr std::uint64_t kVersion = 1;
inline constexpr std::size_t kHeaderBytes = 9 + 8 + 1 + 8 + 8;

// Megatron's codes of token types. 6 (float64) and 7 (float32) hold no token ids.
enum class TokenType : std::uint8_t {
  kUint8 = 1,
  kInt8 = 2,
  kInt16 = 3,
  kInt32 = 4,
  kInt64 = 5,
  kUint16 = 8,
};

// What Megatron's preprocess_data picks for a vocabulary.
constexpr TokenType token_type_for(std::int64_t vocab_size) {
  return vocab_size < 65500 ? TokenType::kUint16 : TokenType::kInt32;
}

constexpr int bytes_of(TokenType type) {
  switch (type) {
    case TokenType::kUint8:
    case TokenType::kInt8: return 1;
    case TokenType::kInt16:
    case TokenType::kUint16: return 2;
    case TokenType::kInt32: return 4;
    case TokenType::kInt64: return 8;
  }
  return 0;
}

}  // namespace witan::indexed_dataset
