#include "launch/data/tokenizers/nfc.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "core/base/error.h"
#include "launch/data/tokenizers/utf8.h"

namespace witan {
namespace {

// Characters below U+0300 neither change nor compose with one in front of them.
bool is_plain(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0xCC) return false;
  }
  return true;
}

void append_nfc(std::string_view valid, std::string& out) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(valid.data()),
                   static_cast<utf8proc_ssize_t>(valid.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  WITAN_CHECK(size >= 0, "normal form C: ", utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
}

}  // namespace

std::string_view normalized_nfc(std::string_view text, std::string& buffer) {
  if (is_plain(text)) return text;
  buffer.clear();
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = end_of_utf8(text, at);
    append_nfc(text.substr(at, end - at), buffer);
    at = end;
    if (at < text.size()) buffer.push_back(text[at++]);
  }
  return buffer;
}

}  // namespace witan
