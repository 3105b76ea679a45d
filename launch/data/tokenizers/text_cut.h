// Places where the well-known pre-tokenizers (SplitPattern::is_well_known()) end a word whatever
// surrounds them, so that the text before and behind can be encoded apart.
#pragma once

#include <cstddef>
#include <string_view>

namespace witan {

// A cut is in front of a space between two ASCII letters and, with `at_lines`, behind a line feed
// between two visible ASCII characters or letters of common scripts. npos if there is none.
std::size_t first_text_cut(std::string_view text, bool at_lines);
std::size_t last_text_cut(std::string_view text, bool at_lines);
// Whether there may be a cut inside `token`, with whatever stands around it.
bool may_be_cut(std::string_view token);

}  // namespace witan
