// Flat work on rows that are only moved: in the largest pieces that their lengths and addresses
// allow, one after the other by the threads of the whole grid.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "core/base/cuda/dialect.h"

namespace witan::ops::cuda {

// Where a strided thread begins, and how far it goes at a time.
__device__ inline std::int64_t first_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t index_stride() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

// 16 bytes: what one thread loads or stores at most in one instruction.
struct alignas(16) Piece16 {
  std::uint64_t low, high;
};

// Calls f(Piece{}) with the largest piece that divides all of `byte_counts` and addresses.
template <class F>
void dispatch_piece(std::initializer_list<std::size_t> byte_counts,
                    std::initializer_list<const void*> addresses, F&& f) {
  const auto fits = [&](std::size_t bytes) {
    return std::all_of(byte_counts.begin(), byte_counts.end(),
                       [&](std::size_t count) { return count % bytes == 0; }) &&
           std::all_of(addresses.begin(), addresses.end(), [&](const void* address) {
             return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
           });
  };
  if (fits(sizeof(Piece16))) {
    f(Piece16{});
  } else if (fits(sizeof(std::uint64_t))) {
    f(std::uint64_t{});
  } else {
    f(std::uint32_t{});
  }
}

}  // namespace witan::ops::cuda
