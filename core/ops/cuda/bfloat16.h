// bfloat16 as its 16 bits: the upper half of a float32, rounded to nearest, ties to even, as the
// CPU backend rounds.
#pragma once

#include <cstdint>

#include "core/base/cuda/dialect.h"

namespace witan::ops::cuda {

__device__ inline std::uint16_t to_bfloat16(float x) {
  const std::uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {  // adding would turn some NaNs into zero
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

__device__ inline float from_bfloat16(std::uint16_t x) {
  return __uint_as_float(static_cast<std::uint32_t>(x) << 16);
}

__device__ inline float round_to_bfloat16(float x) { return from_bfloat16(to_bfloat16(x)); }

}  // namespace witan::ops::cuda
