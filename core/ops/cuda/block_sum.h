// Sums over the threads of a warp and of a block, in one fixed order: the same bits in every run.
#pragma once

#include "core/base/cuda/dialect.h"

namespace witan::ops::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;
inline constexpr int kMaxWarps = 32;  // 1024 threads

// The sum over the warp, on every lane; all 32 lanes call it.
__device__ inline double warp_sum(double value) {
  WITAN_UNROLL
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, offset);
  }
  return value;
}

// The sum over a one-dimensional block of whole warps, on every thread; all threads call it.
// `partial` [kMaxWarps] is shared memory, and free again after the next __syncthreads().
__device__ inline double block_sum(double value, double* partial) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = warp_sum(value);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  return warp_sum(lane < warps ? partial[lane] : 0.0);
}

}  // namespace witan::ops::cuda
