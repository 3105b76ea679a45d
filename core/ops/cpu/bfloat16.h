// Rounding to bfloat16 in registers, and values in bfloat16 in memory. For kernel files only.
#pragma once

#include <type_traits>

#include "core/base/dtype.h"
#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {

// The nearest bfloat16 of each lane, ties to even, as a float.
WITAN_INLINE VecFloat round_to_bfloat16(VecFloat x) {
  VecBits bits = (VecBits)x;
  bits = (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
  return x == x ? (VecFloat)bits : x;  // adding would turn some NaNs into zero
}

typedef std::uint16_t Halves __attribute__((vector_size(kVecBytes / 2)));

// A register's lanes of bfloat16, one bfloat16 in the lower half of each.
WITAN_INLINE VecBits load_bits(const Bfloat16* from, Full = {}) {
  Halves halves;
  __builtin_memcpy(&halves, from, sizeof(halves));
  return __builtin_convertvector(halves, VecBits);
}
WITAN_INLINE VecBits load_bits(const Bfloat16* from, Part part) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << part.count) - 1u);
  return __builtin_convertvector((Halves)_mm256_maskz_loadu_epi16(mask, from), VecBits);
#else
  Bfloat16 lanes[kLanes<float>] = {};
  for (int i = 0; i < kLanes<float>; ++i) {
    if (i < part.count) lanes[i] = from[i];
  }
  return load_bits(lanes);
#endif
}

// As floats.
template <class Lanes>
WITAN_INLINE VecFloat load_wide(const Bfloat16* from, Lanes lanes) {
  return (VecFloat)(load_bits(from, lanes) << 16);
}

// Rounded, or as it is: what stores a kernel's result in either type.
template <class Lanes>
WITAN_INLINE void store_as(Bfloat16* to, VecFloat x, Lanes lanes) {
  VecBits bits = (VecBits)x;
  const VecBits quiet_nan = (bits >> 16) | 0x40U;
  bits = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  const Halves halves = __builtin_convertvector(x == x ? bits : quiet_nan, Halves);
  if constexpr (std::is_same_v<Lanes, Full>) {
    __builtin_memcpy(to, &halves, sizeof(halves));
  } else {
#if defined(__AVX512F__)
    const auto mask = static_cast<__mmask16>((1u << lanes.count) - 1u);
    _mm256_mask_storeu_epi16(to, mask, (__m256i)halves);
#else
    for (int i = 0; i < kLanes<float>; ++i) {
      if (i < lanes.count) to[i].bits = halves[i];
    }
#endif
  }
}
template <class T, class Lanes>
WITAN_INLINE void store_as(T* to, Vec<T> x, Lanes lanes) {
  store(to, x, lanes);
}

}  // namespace witan::cpu::WITAN_ISA
