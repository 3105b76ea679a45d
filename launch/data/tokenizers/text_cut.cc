#include "launch/data/tokenizers/text_cut.h"

#include <string>

#include "launch/data/tokenizers/utf8.h"

namespace witan {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Neither white space nor a combining mark; Chinese, Japanese and Korean among the rest.
bool is_visible(const Utf8Character& character) {
  const std::uint32_t code = character.code;
  const bool ascii = code > 32 && code < 127;
  const bool european = code >= 0xC0 && code < 0x300;
  const bool asian = (code >= 0x3041 && code <= 0x3096) || (code >= 0x30A1 && code <= 0x30FA) ||
                     (code >= 0x4E00 && code <= 0x9FA5) || (code >= 0xAC00 && code <= 0xD7A3);
  return character.size > 0 && (ascii || european || asian);
}

bool is_visible_before(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) {
    --begin;
  }
  const Utf8Character character = utf8_character(text, begin);
  return begin + character.size == end && is_visible(character);
}

bool is_cut(std::string_view text, std::size_t at, bool at_lines) {
  if (text[at] == ' ') {
    return at + 1 < text.size() && is_letter(text[at - 1]) && is_letter(text[at + 1]);
  }
  return at_lines && text[at - 1] == '\n' && at >= 2 && is_visible_before(text, at - 1) &&
         is_visible(utf8_character(text, at));
}

}  // namespace

std::size_t first_text_cut(std::string_view text, bool at_lines) {
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (is_cut(text, at, at_lines)) return at;
  }
  return std::string_view::npos;
}

std::size_t last_text_cut(std::string_view text, bool at_lines) {
  for (std::size_t at = text.empty() ? 0 : text.size() - 1; at >= 1; --at) {
    if (is_cut(text, at, at_lines)) return at;
  }
  return std::string_view::npos;
}

bool may_be_cut(std::string_view token) {
  const std::string amid = "x" + std::string(token) + "x";
  for (std::size_t at = 2; at <= token.size(); ++at) {
    if (is_cut(amid, at, true)) return true;
  }
  return false;
}

}  // namespace witan
