// Kernels that give each row of a matrix to one warp: rows of experts are short.
#pragma once

#include <cstdint>

#include "core/base/cuda/dialect.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/grid.h"

namespace witan::ops::cuda {

inline constexpr int kRowsOfBlock = 4;  // warps

inline dim3 warp_grid(std::int64_t rows) {
  return dim3(grid_extent(blocks_of(rows, kRowsOfBlock), kMaxGridX));
}
inline dim3 warp_block() { return dim3(kWarpSize, kRowsOfBlock); }

// This warp's row, which may lie behind the last one; the lane is threadIdx.x.
__device__ inline std::int64_t row_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kRowsOfBlock + threadIdx.y;
}

}  // namespace witan::ops::cuda
