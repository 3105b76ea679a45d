// How many rows of logits are made and used up at once, so that [rows, vocab] never exists whole:
// about 16 MB in float32.
#pragma once

#include <algorithm>
#include <cstdint>

namespace witan {

inline std::int64_t head_chunk(std::int64_t vocab) {
  return std::clamp<std::int64_t>((std::int64_t{1} << 22) / vocab, 16, 4096);
}

}  // namespace witan
