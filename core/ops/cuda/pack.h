// Neighbouring elements that move as one: up to 16 bytes, what a thread loads or stores at most in
// one instruction.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/base/cuda/dialect.h"

namespace witan::ops::cuda {

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth < 16 ? sizeof(T) * kWidth : 16) Pack {
  T value[kWidth];
};

template <int kWidth, class T>
__device__ Pack<T, kWidth> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, kWidth>*>(from);
}

template <int kWidth, class T>
__device__ void store_pack(T* to, const Pack<T, kWidth>& pack) {
  *reinterpret_cast<Pack<T, kWidth>*>(to) = pack;
}

template <int kWidth>
using Width = std::integral_constant<int, kWidth>;

// f(i, Width<w>{}) over [0, n), the threads of the whole grid side by side: pieces of kWidth
// elements, then single ones.
template <int kWidth, class F>
__device__ void for_each_piece(std::int64_t n, const F& f) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t self = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t pieces = n / kWidth;
  for (std::int64_t piece = self; piece < pieces; piece += threads) {
    f(piece * kWidth, Width<kWidth>{});
  }
  if constexpr (kWidth > 1) {
    for (std::int64_t i = pieces * kWidth + self; i < n; i += threads) f(i, Width<1>{});
  }
}

// f(i) for every piece of kWidth elements of a row of d, which they divide, by the threads of a
// block.
template <int kWidth, class F>
__device__ void for_each_piece_of_row(std::int64_t d, const F& f) {
  const std::int64_t step = static_cast<std::int64_t>(blockDim.x) * kWidth;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * kWidth; i < d; i += step) f(i);
}

// The elements of T in 16 bytes.
template <class T>
inline constexpr int kWidest = 16 / static_cast<int>(sizeof(T));

inline bool is_aligned(const void* data, std::size_t bytes = 16) {
  return reinterpret_cast<std::uintptr_t>(data) % bytes == 0;
}

// f(Width<kWidest<T>>{}) where 16-byte pieces fit, else f(Width<1>{}).
template <class T, class F>
void dispatch_width(bool fits, const F& f) {
  if (fits) {
    f(Width<kWidest<T>>{});
  } else {
    f(Width<1>{});
  }
}

}  // namespace witan::ops::cuda
