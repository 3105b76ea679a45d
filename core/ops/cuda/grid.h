// Extents of grids and blocks, for launchers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/cuda/dialect.h"
#include "core/base/error.h"

namespace witan::ops::cuda {

inline constexpr std::int64_t kMaxGridX = 2147483647;
inline constexpr std::int64_t kMaxGridY = 65535;
inline constexpr int kFlatThreads = 256;
inline constexpr int kRowThreads = 256;  // at most, of a block that works on one row

inline std::int64_t blocks_of(std::int64_t size, std::int64_t per_block) {
  return (size + per_block - 1) / per_block;
}

// `blocks` as an extent of a grid; throws beyond `limit`.
inline unsigned grid_extent(std::int64_t blocks, std::int64_t limit) {
  WITAN_CHECK(blocks <= limit, "a grid has at most ", limit, " blocks along this axis, found ",
              blocks);
  return static_cast<unsigned>(blocks);
}

// Blocks of kFlatThreads whose threads stride over `pieces` of flat work.
inline dim3 flat_grid(std::int64_t pieces) {
  constexpr std::int64_t kMostBlocks = 65536;  // beyond this, threads take several pieces
  return dim3(static_cast<unsigned>(
      std::clamp<std::int64_t>(blocks_of(pieces, kFlatThreads), 1, kMostBlocks)));
}

// A block for one row of `pieces`: whole warps, no more than the row can use.
inline dim3 row_block(std::int64_t pieces) {
  constexpr int kWarp = 32;
  return dim3(static_cast<unsigned>(
      std::clamp<std::int64_t>(blocks_of(pieces, kWarp) * kWarp, kWarp, kRowThreads)));
}

}  // namespace witan::ops::cuda
