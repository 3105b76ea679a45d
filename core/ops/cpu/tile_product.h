// c (+)= a b for small tiles that live in the caches, by outer products in registers. For kernel
// files only.
#pragma once

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {

inline constexpr int kProductRows = 8;      // rows come in multiples of this
inline constexpr int kProductColumns = 16;  // columns too

// Where an element stands: data[row * row_stride + k * k_stride].
template <class T>
struct LeftTile {
  const T* data;
  std::int64_t row_stride;
  std::int64_t k_stride;
};

template <class T, int kRows, int kVecs>
WITAN_INLINE void block_product(LeftTile<T> a, const T* b, std::int64_t ldb, std::int64_t depth,
                                T* c, std::int64_t ldc, bool accumulate) {
  Vec<T> sums[kRows][kVecs];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVecs; ++v) {
      sums[i][v] = accumulate ? load(c + i * ldc + v * kLanes<T>) : Vec<T>{};
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Vec<T> right[kVecs];
    for (int v = 0; v < kVecs; ++v) right[v] = load(b + k * ldb + v * kLanes<T>);
    for (int i = 0; i < kRows; ++i) {
      const T left = a.data[i * a.row_stride + k * a.k_stride];
      for (int v = 0; v < kVecs; ++v) sums[i][v] += right[v] * left;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVecs; ++v) store(c + i * ldc + v * kLanes<T>, sums[i][v]);
  }
}

// kProductRows rows of c [.., columns], columns a multiple of kProductColumns: a [rows, depth],
// b [depth, columns] with rows ldb apart.
template <class T>
WITAN_INLINE void tile_product(LeftTile<T> a, const T* b, std::int64_t ldb, std::int64_t columns,
                               std::int64_t depth, T* c, std::int64_t ldc, bool accumulate) {
#if defined(__AVX512F__)
  constexpr int kRows = 8;  // 16 sums of 32 registers
#else
  constexpr int kRows = 4;  // 8 sums of 16 registers
#endif
  constexpr int kStep = 2 * kLanes<T>;
  for (int i = 0; i < kProductRows; i += kRows) {
    const LeftTile<T> rows = {a.data + i * a.row_stride, a.row_stride, a.k_stride};
    std::int64_t j = 0;
    for (; j + kStep <= columns; j += kStep) {
      block_product<T, kRows, 2>(rows, b + j, ldb, depth, c + i * ldc + j, ldc, accumulate);
    }
    for (; j < columns; j += kLanes<T>) {
      block_product<T, kRows, 1>(rows, b + j, ldb, depth, c + i * ldc + j, ldc, accumulate);
    }
  }
}

}  // namespace witan::cpu::WITAN_ISA
