#include "launch/data/tokenizers/byte_alphabet.h"

#include <array>

#include "launch/data/tokenizers/utf8.h"

namespace witan {
namespace {

constexpr std::size_t kCharacters = 256 + 68;

constexpr bool stands_for_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// The byte of each character; -1: none.
constexpr std::array<int, kCharacters> make_bytes() {
  std::array<int, kCharacters> bytes{};
  bytes.fill(-1);
  std::size_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    bytes[stands_for_itself(byte) ? static_cast<std::size_t>(byte) : next++] = byte;
  }
  return bytes;
}

constexpr std::array<int, kCharacters> kBytes = make_bytes();

}  // namespace

std::optional<std::string> bytes_of_alphabet(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (std::size_t at = 0; at < token.size();) {
    const Utf8Character character = utf8_character(token, at);
    if (character.size == 0 || character.code >= kCharacters) return std::nullopt;
    const int byte = kBytes[character.code];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += character.size;
  }
  return bytes;
}

}  // namespace witan
