// Transposition of squares of values in registers. For kernel files only.
#pragma once

#include <utility>

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {
namespace {

// One stage of a transposition by recursive halving: exchanges the lanes of x with bit `kBit` set
// against those of y without it.
template <class T, int kBit, int... kLane>
inline void exchange_lanes(Vec<T>& x, Vec<T>& y, std::integer_sequence<int, kLane...>) {
  constexpr int n = kLanes<T>;
  const Vec<T> low =
      __builtin_shufflevector(x, y, ((kLane & kBit) != 0 ? n + kLane - kBit : kLane)...);
  const Vec<T> high =
      __builtin_shufflevector(x, y, ((kLane & kBit) != 0 ? n + kLane : kLane + kBit)...);
  x = low;
  y = high;
}

template <class T, int kBit>
inline void transpose_stage(Vec<T> (&rows)[kLanes<T>]) {
  if constexpr (kBit < kLanes<T>) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) {
      if ((i & kBit) == 0) {
        exchange_lanes<T, kBit>(rows[i], rows[i + kBit],
                                std::make_integer_sequence<int, kLanes<T>>{});
      }
    }
    transpose_stage<T, 2 * kBit>(rows);
  }
}

// Transposes a square of kLanes x kLanes values in registers.
template <class T>
inline void transpose(Vec<T> (&rows)[kLanes<T>]) {
  transpose_stage<T, 1>(rows);
}

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
