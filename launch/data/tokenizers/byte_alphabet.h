// GPT-2's alphabet of bytes: each byte as a printable character, so that the tokens of a byte-level
// vocabulary can be written in JSON (Radford et al. 2019). 33 .. 126, 161 .. 172 and 174 .. 255 are
// themselves; the other 68 are U+0100, U+0101, ... in order.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace witan {

// The bytes that a token of the vocabulary stands for; none if it has a character that is no byte.
std::optional<std::string> bytes_of_alphabet(std::string_view token);

}  // namespace witan
