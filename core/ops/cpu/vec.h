// The small vector layer that CPU kernels are written over: one register of floats or doubles of
// the level the file is compiled for, built on compiler vector extensions. Include it from kernel
// files only (they define WITAN_ISA); everything lives in the level's namespace.
//
// A loop over a row visits whole registers and then one part of a register:
//   for_each_vec<T>(n, [&](std::int64_t i, auto part) WITAN_LAMBDA {
//     store(y + i, load(x + i, part) * w, part);
//   });
#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#define WITAN_INLINE inline __attribute__((always_inline))
#define WITAN_LAMBDA __attribute__((always_inline))

namespace witan::cpu::WITAN_ISA {

#if defined(__AVX512F__)
inline constexpr int kVecBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVecBytes = 32;
#else
inline constexpr int kVecBytes = 16;
#endif

typedef float VecFloat __attribute__((vector_size(kVecBytes)));
typedef double VecDouble __attribute__((vector_size(kVecBytes)));
typedef std::uint32_t VecBits __attribute__((vector_size(kVecBytes)));
typedef float HalfVecFloat __attribute__((vector_size(kVecBytes / 2)));
typedef float FourFloats __attribute__((vector_size(16)));
typedef double TwoDoubles __attribute__((vector_size(16)));

template <class T>
struct VecOf;
template <>
struct VecOf<float> {
  using type = VecFloat;
};
template <>
struct VecOf<double> {
  using type = VecDouble;
};
template <class T>
using Vec = typename VecOf<T>::type;

template <class T>
inline constexpr int kLanes = kVecBytes / static_cast<int>(sizeof(T));

// How much of a register a load or store touches; the lanes beyond a Part load as zero.
struct Full {};
struct Part {
  int count;
};

template <class T>
WITAN_INLINE Vec<T> broadcast(T value) {
  return Vec<T>{} + value;
}

template <class T>
WITAN_INLINE Vec<T> load(const T* from, Full = {}) {
  Vec<T> v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}
template <class T>
WITAN_INLINE void store(T* to, Vec<T> v, Full = {}) {
  __builtin_memcpy(to, &v, sizeof(v));
}

// By a store that bypasses the cache; `to` lies at a whole vector. Other threads see it for certain
// after an _mm_sfence() of this one.
WITAN_INLINE void store_past_cache(float* to, VecFloat v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(to, (__m256)v);
#else
  _mm_stream_ps(to, (__m128)v);
#endif
}
WITAN_INLINE void store_past_cache(double* to, VecDouble v) {
#if defined(__AVX512F__)
  _mm512_stream_pd(to, (__m512d)v);
#elif defined(__AVX2__)
  _mm256_stream_pd(to, (__m256d)v);
#else
  _mm_stream_pd(to, (__m128d)v);
#endif
}

#if defined(__AVX512F__)
WITAN_INLINE VecFloat load(const float* from, Part part) {
  return (VecFloat)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << part.count) - 1u), from);
}
WITAN_INLINE VecDouble load(const double* from, Part part) {
  return (VecDouble)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << part.count) - 1u), from);
}
WITAN_INLINE void store(float* to, VecFloat v, Part part) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << part.count) - 1u), (__m512)v);
}
WITAN_INLINE void store(double* to, VecDouble v, Part part) {
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << part.count) - 1u), (__m512d)v);
}
#else
template <class T>
WITAN_INLINE Vec<T> load(const T* from, Part part) {
  T lanes[kLanes<T>] = {};
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < part.count) lanes[i] = from[i];
  }
  return load(lanes);
}
template <class T>
WITAN_INLINE void store(T* to, Vec<T> v, Part part) {
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < part.count) to[i] = v[i];
  }
}
#endif

// kLanes<double> elements, widened.
WITAN_INLINE VecDouble load_wide(const double* from, Full = {}) { return load(from); }
WITAN_INLINE VecDouble load_wide(const double* from, Part part) { return load(from, part); }
WITAN_INLINE VecDouble load_wide(const float* from, Full = {}) {
  HalfVecFloat half;
  __builtin_memcpy(&half, from, sizeof(half));
  return __builtin_convertvector(half, VecDouble);
}
WITAN_INLINE VecDouble load_wide(const float* from, Part part) {
  float lanes[kLanes<double>] = {};
  for (int i = 0; i < kLanes<double>; ++i) {
    if (i < part.count) lanes[i] = from[i];
  }
  return load_wide(lanes);
}

// body(i, part) for every register of a row of n elements of type T.
template <class T, class Body>
WITAN_INLINE void for_each_vec(std::int64_t n, Body&& body) {
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) body(i, Full{});
  if (i < n) body(i, Part{static_cast<int>(n - i)});
}

// Lane-wise maximum; a NaN in b is dropped, one in a stays.
template <class V>
WITAN_INLINE V max_of(V a, V b) {
  return b > a ? b : a;
}

// Reductions over the lanes, always in the same tree: the upper half onto the lower half.
struct Add {
  template <class V>
  WITAN_INLINE V operator()(V a, V b) const {
    return a + b;
  }
};
struct Larger {
  template <class V>
  WITAN_INLINE V operator()(V a, V b) const {
    return b > a ? b : a;
  }
};

template <class Fold>
WITAN_INLINE float fold_lanes(Fold fold, FourFloats v) {
  v = fold(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
  v = fold(v, __builtin_shufflevector(v, v, 1, 0, 3, 2));
  return v[0];
}
template <class Fold>
WITAN_INLINE double fold_lanes(Fold fold, TwoDoubles v) {
  return fold(v, __builtin_shufflevector(v, v, 1, 0))[0];
}
#if defined(__AVX2__)
typedef float EightFloats __attribute__((vector_size(32)));
typedef double FourDoubles __attribute__((vector_size(32)));
template <class Fold>
WITAN_INLINE float fold_lanes(Fold fold, EightFloats v) {
  return fold_lanes(fold, fold(__builtin_shufflevector(v, v, 0, 1, 2, 3),
                               __builtin_shufflevector(v, v, 4, 5, 6, 7)));
}
template <class Fold>
WITAN_INLINE double fold_lanes(Fold fold, FourDoubles v) {
  return fold_lanes(fold,
                    fold(__builtin_shufflevector(v, v, 0, 1), __builtin_shufflevector(v, v, 2, 3)));
}
#endif
#if defined(__AVX512F__)
template <class Fold>
WITAN_INLINE float fold_lanes(Fold fold, VecFloat v) {
  return fold_lanes(fold, fold(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                               __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)));
}
template <class Fold>
WITAN_INLINE double fold_lanes(Fold fold, VecDouble v) {
  return fold_lanes(fold, fold(__builtin_shufflevector(v, v, 0, 1, 2, 3),
                               __builtin_shufflevector(v, v, 4, 5, 6, 7)));
}
#endif

template <class V>
WITAN_INLINE auto sum_lanes(V v) {
  return fold_lanes(Add{}, v);
}
template <class V>
WITAN_INLINE auto max_lanes(V v) {
  return fold_lanes(Larger{}, v);
}

// exp(x) to about 1 ulp. exp(-inf) = 0, exp(large) = inf, NaN stays NaN; results below 2^-126 are
// flushed to zero (denormals would slow every later product down). Cody-Waite reduction to
// |r| <= ln 2 / 2, then a degree-6 minimax polynomial (relative error 3e-9).
WITAN_INLINE VecFloat exp(VecFloat x) {
  constexpr float kLog2e = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;  // few bits, so that n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr float kUnderflow = -87.3f;
  constexpr float kOverflow = 88.72283f;
  const VecFloat shifted = x * kLog2e + kRound;
  const VecFloat n = shifted - kRound;
  const VecFloat r = (x - n * kLn2High) - n * kLn2Low;
  VecFloat p = r * 0x1.6a23cep-10f + 0x1.123a2p-7f;
  p = p * r + 0x1.5558f2p-5f;
  p = p * r + 0x1.555492p-3f;
  p = p * r + 0x1.fffffcp-2f;
  p = p * (r * r) + (r + 1.0f);
  // The integer n sits in the low bits of `shifted`; shifting by 23 adds it to the exponent of p.
  const VecBits bits = (VecBits)p + ((VecBits)shifted << 23);
  VecFloat y = (VecFloat)bits;
  y = x < kUnderflow ? VecFloat{} : y;
  y = x > kOverflow ? broadcast(__builtin_inff()) : y;
  return x == x ? y : x;
}

WITAN_INLINE VecDouble exp(VecDouble x) {
  VecDouble y = {};
  for (int i = 0; i < kLanes<double>; ++i) y[i] = __builtin_exp(x[i]);
  return y;
}

// 1 / (1 + exp(-x)), saturating to 0 and 1.
template <class V>
WITAN_INLINE V sigmoid(V x) {
  return 1 / (1 + exp(-x));
}

}  // namespace witan::cpu::WITAN_ISA
