// UTF-8, one character at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace witan {

struct Utf8Character {
  std::uint32_t code = 0;
  std::size_t size = 0;  // bytes; 0: not UTF-8 (overlong forms, surrogates, truncated, ...)
};

Utf8Character utf8_character(std::string_view text, std::size_t at);

// The end of the longest stretch of valid UTF-8 that begins at `begin`.
std::size_t end_of_utf8(std::string_view text, std::size_t begin);

}  // namespace witan
