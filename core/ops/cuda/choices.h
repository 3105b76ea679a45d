// The largest values of a row, one after the other, by one warp that keeps nothing but the last one
// it took: each is the first of those that come after it in the order of selection.
#pragma once

#include <cstdint>

#include "core/base/cuda/dialect.h"
#include "core/ops/cuda/block_sum.h"

namespace witan::ops::cuda {

// Larger values first, ties to the lower index.
template <class T>
struct Choice {
  T value;
  std::int32_t index;
};

template <class T>
__device__ bool comes_before(const Choice<T>& a, const Choice<T>& b) {
  return a.value > b.value || (a.value == b.value && a.index < b.index);
}

// What selection compares: a NaN ranks below everything, so that the order stays total.
template <class T>
__device__ T rank_of(T value) {
  return value == value ? value : -static_cast<T>(INFINITY);
}

inline constexpr std::int32_t kNobody = 0x7fffffff;  // the index behind every other

// The first of all lanes' choices, on every lane; all lanes of the warp call it.
template <class T>
__device__ Choice<T> first_of_warp(Choice<T> mine) {
  WITAN_UNROLL
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const Choice<T> other{__shfl_xor_sync(kFullWarp, mine.value, offset),
                          __shfl_xor_sync(kFullWarp, mine.index, offset)};
    if (comes_before(other, mine)) mine = other;
  }
  return mine;
}

// The first among indices begin, begin + step, ... below end that come after `last` (any, where
// `anything`), for one lane; kNobody where there is none. value(index) has passed rank_of.
template <class T, class Value>
__device__ Choice<T> next_choice(std::int32_t begin, std::int32_t end, std::int32_t step,
                                 bool anything, const Choice<T>& last, const Value& value) {
  Choice<T> best{-static_cast<T>(INFINITY), kNobody};
  for (std::int32_t i = begin; i < end; i += step) {
    const Choice<T> candidate{value(i), i};
    if ((anything || comes_before(last, candidate)) && comes_before(candidate, best)) {
      best = candidate;
    }
  }
  return best;
}

}  // namespace witan::ops::cuda
