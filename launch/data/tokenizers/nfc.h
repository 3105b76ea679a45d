// Unicode's normal form C.
#pragma once

#include <string>
#include <string_view>

namespace witan {

// The text in normal form C; bytes that are not UTF-8 stay. `buffer` holds the result unless `text`
// is in that form as it is.
std::string_view normalized_nfc(std::string_view text, std::string& buffer);

}  // namespace witan
