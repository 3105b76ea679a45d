// What the blocked matrix product does with the values of its operands while it packs them. An
// operand policy says how `kTerms` neighbouring terms of the sum become one packed element, and how
// two registers of packed elements are multiplied and added. For kernel files only.
#pragma once

#include "core/ops/cpu/bfloat16.h"
#include "core/ops/cpu/vec.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace witan::cpu::WITAN_ISA {
namespace {

// Whether C is written by stores that bypass the cache: the gradient of a large matrix, written
// once, by one block of terms, and read when everything else has gone through the cache. Where
// experts have few rows, its products wait for memory, which is then not read for what is
// overwritten.
template <class Task>
bool is_past_cache(const Task& task, std::int64_t block_terms) {
  constexpr std::int64_t kLarge = 1 << 15;  // elements of a thread's part
  constexpr std::int64_t kLine = 64;        // bytes
  constexpr auto kValue = static_cast<std::int64_t>(sizeof(*task.c));
  return task.a_transposed && !task.accumulate && task.k <= block_terms &&
         task.m * task.n >= kLarge && task.ldc * kValue % kLine == 0 &&
         reinterpret_cast<std::uintptr_t>(task.c) % kLine == 0;
}

// Float or double as they are.
template <class T>
struct Plain {
  using Value = T;   // in memory, and of the sums
  using Packed = T;  // an element of a packed operand
  static constexpr std::int64_t kTerms = 1;

  // A register of packed elements from neighbouring values: one row of a square.
  static WITAN_INLINE Vec<T> row(const T* from) { return load(from); }
  // A register of packed elements, the terms of each standing below one another; `next`: the line
  // of the second term, or null.
  template <class Lanes>
  static WITAN_INLINE Vec<T> lines(const T* from, const T*, Lanes lanes) {
    return load(from, lanes);
  }
  // One packed element of `terms` (at most kTerms) values that stand `stride` apart.
  static WITAN_INLINE T one(const T* from, std::int64_t, std::int64_t) { return *from; }

  static WITAN_INLINE Vec<T> multiply_add(Vec<T> sum, T a, Vec<T> b) { return sum + a * b; }
};

// Float rounded to bfloat16, or bfloat16, multiplied as float: the numerics of a bfloat16 unit on a
// CPU without one.
struct RoundedToBfloat16 {
  using Value = float;
  using Packed = float;
  static constexpr std::int64_t kTerms = 1;

  static WITAN_INLINE VecFloat row(const float* from) { return round_to_bfloat16(load(from)); }
  template <class Lanes>
  static WITAN_INLINE VecFloat lines(const float* from, const float*, Lanes lanes) {
    return round_to_bfloat16(load(from, lanes));
  }
  static WITAN_INLINE float one(const float* from, std::int64_t, std::int64_t) {
    return round_to_bfloat16(broadcast(*from))[0];
  }
  static WITAN_INLINE VecFloat row(const Bfloat16* from) { return load_wide(from, Full{}); }
  template <class Lanes>
  static WITAN_INLINE VecFloat lines(const Bfloat16* from, const Bfloat16*, Lanes lanes) {
    return load_wide(from, lanes);
  }
  static WITAN_INLINE float one(const Bfloat16* from, std::int64_t, std::int64_t) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(from->bits) << 16);
  }
  static WITAN_INLINE VecFloat multiply_add(VecFloat sum, float a, VecFloat b) {
    return sum + a * b;
  }
};

#if defined(__AVX512BF16__)
// 16 pairs of bfloat16, moved as floats: of neighbouring values, low before high, ...
WITAN_INLINE VecFloat pairs_of_neighbours(VecFloat low, VecFloat high) {
  return (VecFloat)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}
// ... or of the values that stand in the same lane.
WITAN_INLINE VecFloat pairs_of_lanes(VecFloat first, VecFloat second) {
  const VecFloat both = pairs_of_neighbours(first, second);
  Halves half[2];
  __builtin_memcpy(half, &both, sizeof(half));
  return (VecFloat)(__builtin_convertvector(half[0], VecBits) |
                    __builtin_convertvector(half[1], VecBits) << 16);
}

WITAN_INLINE VecFloat pairs_of_bits(VecBits first, VecBits second) {
  return (VecFloat)(first | second << 16);
}

// Two bfloat16 in a packed element, multiplied and added by vdpbf16ps.
struct Bfloat16Pairs {
  using Value = float;
  using Packed = float;  // 32 bits that are moved as a float
  static constexpr std::int64_t kTerms = 2;

  static WITAN_INLINE VecFloat row(const float* from) {
    return pairs_of_neighbours(load(from), load(from + kLanes<float>));
  }
  template <class Lanes>
  static WITAN_INLINE VecFloat lines(const float* from, const float* next, Lanes lanes) {
    return pairs_of_lanes(load(from, lanes), next == nullptr ? VecFloat{} : load(next, lanes));
  }
  static WITAN_INLINE float one(const float* from, std::int64_t stride, std::int64_t terms) {
    return lines(from, terms > 1 ? from + stride : nullptr, Part{1})[0];
  }
  static WITAN_INLINE VecFloat row(const Bfloat16* from) {
    VecFloat pairs;
    __builtin_memcpy(&pairs, from, sizeof(pairs));
    return pairs;
  }
  template <class Lanes>
  static WITAN_INLINE VecFloat lines(const Bfloat16* from, const Bfloat16* next, Lanes lanes) {
    return pairs_of_bits(load_bits(from, lanes),
                         next == nullptr ? VecBits{} : load_bits(next, lanes));
  }
  static WITAN_INLINE float one(const Bfloat16* from, std::int64_t stride, std::int64_t terms) {
    const std::uint32_t next = terms > 1 ? from[stride].bits : 0;
    return __builtin_bit_cast(float, from->bits | next << 16);
  }
  static WITAN_INLINE VecFloat multiply_add(VecFloat sum, float a, VecFloat b) {
    // Moved as an integer: as a float, a pair may be a signalling NaN.
    const __m512i pair = _mm512_set1_epi32(__builtin_bit_cast(int, a));
    return (VecFloat)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pair, (__m512bh)b);
  }
};
#endif

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
