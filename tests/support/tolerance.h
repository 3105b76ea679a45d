// How far a result may lie from its float64 reference. One table, so that a looser bound has to be
// argued here.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace witan::test {

// Unit roundoff steps of one operation in T: 1.2e-7 for float, 2.2e-16 for double.
template <class T>
constexpr double kEpsilon = std::numeric_limits<T>::epsilon();

// A sum of `terms` products in any order, relative to the sum of their magnitudes. Rounding errors
// of random sign grow like the square root of the number of additions; 4 leaves room for the
// unlucky ones. (The certain bound, terms * epsilon, would let a wrong kernel through.) A dropped
// or doubled term is about 1 / terms, far above it.
template <class T>
double sum_tolerance(std::int64_t terms) {
  return 4.0 * kEpsilon<T> * (1.0 + std::sqrt(static_cast<double>(terms)));
}

// One operation per element (add, scale, cast): correctly rounded, so half a step; a whole one is
// allowed because the reference is rounded to T as well.
template <class T>
constexpr double kElementwiseTolerance = kEpsilon<T>;

// Sums that accumulate in double whatever T is: only their result is rounded to double.
constexpr double kDoubleSumTolerance = 1e-12;

// float64 kernels of two CPU levels: the same formula with sums in another order and with or
// without fused multiply-add; rows are at most a few thousand long.
constexpr double kFloat64LevelTolerance = 1e-12;

// float32 kernels against float64, relative to the largest element of the tensor.
// A handful of operations per element (activation, rotation): a few rounding steps.
constexpr double kFloat32ElementTolerance = 1e-6;
// Rows that are summed or exponentiated on the way (norms, softmax, cross-entropy, router).
constexpr double kFloat32RowTolerance = 4e-6;
// Attention: scores, an exponential of them (an error in a score of 10 is multiplied by 10) and
// sums over keys, forward and backward.
constexpr double kFloat32AttentionTolerance = 1e-5;

// Attention whose probabilities and gradients of scores are rounded to bfloat16 (by at most 2^-9 of
// themselves) before they are multiplied on: the errors of a weighted sum's terms together,
// relative to the largest element of the tensor, with room for gradients that are sums of such
// sums.
constexpr double kBfloat16AttentionTolerance = 1.0 / 256;

}  // namespace witan::test
