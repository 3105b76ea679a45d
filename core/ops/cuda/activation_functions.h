// Value and slope of the activations at one input, in the type of the tensors (gelu in double), as
// on the CPU.
#pragma once

#include "core/base/cuda/dialect.h"
#include "core/ops/activation.h"

namespace witan::ops::cuda {

template <class T>
struct Point {
  T value;
  T slope;
};

template <class T>
__device__ T sigmoid(T x) {
  return T{1} / (T{1} + exp(-x));
}

template <class T>
__device__ Point<T> silu(T x) {
  const T gate = sigmoid(x);
  return {x * gate, gate * (T{1} + x * (T{1} - gate))};
}

template <class T>
__device__ Point<T> relu(T x) {
  // Written so that a NaN passes through.
  return {x < T{0} ? T{0} : x, x > T{0} ? T{1} : T{0}};
}

// x Phi(x), Phi the normal distribution.
template <class T>
__device__ Point<T> gelu(T x) {
  constexpr double kHalfRoot = 0.70710678118654752440;  // 1 / sqrt(2)
  constexpr double kDensity = 0.39894228040143267794;   // 1 / sqrt(2 pi)
  const double value = static_cast<double>(x);
  const double phi = 0.5 * erfc(-value * kHalfRoot);
  return {static_cast<T>(value * phi),
          static_cast<T>(phi + value * kDensity * exp(-0.5 * value * value))};
}

// x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
template <class T>
__device__ Point<T> gelu_tanh(T x) {
  constexpr T kTwoRoot = static_cast<T>(2 * 0.79788456080286535588);
  constexpr T kCubic = static_cast<T>(0.044715);
  const T square = x * x;
  const T gate = sigmoid(kTwoRoot * x * (T{1} + kCubic * square));
  const T slope = kTwoRoot * (T{1} + T{3} * kCubic * square);
  return {x * gate, gate + x * gate * (T{1} - gate) * slope};
}

template <Activation kKind, class T>
__device__ Point<T> activation_at(T x) {
  if constexpr (kKind == Activation::kRelu) {
    return relu(x);
  } else if constexpr (kKind == Activation::kGelu) {
    return gelu(x);
  } else if constexpr (kKind == Activation::kGeluTanh) {
    return gelu_tanh(x);
  } else {
    return silu(x);
  }
}

// SwigluOptions as the kernels multiply them; clamp: infinity where there is none.
template <class T>
struct GluLimits {
  T up_offset;
  T gate_slope;
  T clamp;
};

// f(gate), up + offset, and where the slope of up is not 0.
template <class T>
struct Glu {
  Point<T> gate;
  T up;
  T up_slope;
};

template <class T>
__device__ Glu<T> glu_at(T gate, T up, const GluLimits<T>& limits) {
  const T gate_open = gate > limits.clamp ? T{0} : T{1};
  const T up_open = up > limits.clamp || up < -limits.clamp ? T{0} : T{1};
  const T x = gate > limits.clamp ? limits.clamp : gate;
  const T clamped = up > limits.clamp ? limits.clamp : up < -limits.clamp ? -limits.clamp : up;
  const T s = sigmoid(limits.gate_slope * x);
  return {{x * s, gate_open * s * (T{1} + limits.gate_slope * x * (T{1} - s))},
          clamped + limits.up_offset,
          up_open};
}

}  // namespace witan::ops::cuda
