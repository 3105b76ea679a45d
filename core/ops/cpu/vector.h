// Vectors of the level a kernel file is being compiled for, over GCC's vector extension: arithmetic
// operators work element-wise and a scalar operand is broadcast. Include from kernel files only.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace witan::cpu::WITAN_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type __attribute__((vector_size(kVectorBytes))) = float;
};
template <>
struct VectorOf<double> {
  using type __attribute__((vector_size(kVectorBytes))) = double;
};
template <class T>
using Vector = typename VectorOf<T>::type;

// Unaligned loads and stores; at full speed where the address happens to be aligned.
template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
template <class T>
inline void store(T* to, Vector<T> v) {
  std::memcpy(to, &v, sizeof(v));
}

// One stage of a transposition by recursive halving: exchanges the lanes of x with bit `kBit` set
// against those of y without it.
template <class T, int kBit, int... kLane>
inline void exchange_lanes(Vector<T>& x, Vector<T>& y, std::integer_sequence<int, kLane...>) {
  constexpr int n = kLanes<T>;
  const Vector<T> low =
      __builtin_shufflevector(x, y, ((kLane & kBit) != 0 ? n + kLane - kBit : kLane)...);
  const Vector<T> high =
      __builtin_shufflevector(x, y, ((kLane & kBit) != 0 ? n + kLane : kLane + kBit)...);
  x = low;
  y = high;
}

template <class T, int kBit>
inline void transpose_stage(Vector<T> (&rows)[kLanes<T>]) {
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
inline void transpose(Vector<T> (&rows)[kLanes<T>]) {
  transpose_stage<T, 1>(rows);
}

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
