#include "core/ops/cpu/activation_kernels.h"

#include "core/ops/cpu/bfloat16.h"
#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {
namespace {

using ops::Activation;
using ops::SwigluOptions;

// The value and the slope of f at one vector of inputs.
template <class T>
struct Point {
  Vec<T> value;
  Vec<T> slope;
};

template <class T>
WITAN_INLINE Point<T> silu(Vec<T> x) {
  const Vec<T> gate = sigmoid(x);
  return {x * gate, gate * (1 + x * (1 - gate))};
}

template <class T>
WITAN_INLINE Point<T> relu(Vec<T> x) {
  // Written so that a NaN passes through.
  return {x < 0 ? Vec<T>{} : x, x > 0 ? broadcast<T>(1) : Vec<T>{}};
}

// x Phi(x), Phi the normal distribution.
template <class T>
WITAN_INLINE Point<T> gelu(Vec<T> x) {
  constexpr double kHalfRoot = 0.70710678118654752440;  // 1 / sqrt(2)
  constexpr double kDensity = 0.39894228040143267794;   // 1 / sqrt(2 pi)
  Point<T> f;
  for (int i = 0; i < kLanes<T>; ++i) {
    const auto value = static_cast<double>(x[i]);
    const double phi = 0.5 * __builtin_erfc(-value * kHalfRoot);
    f.value[i] = static_cast<T>(value * phi);
    f.slope[i] = static_cast<T>(phi + value * kDensity * __builtin_exp(-0.5 * value * value));
  }
  return f;
}

// x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
template <class T>
WITAN_INLINE Point<T> gelu_tanh(Vec<T> x) {
  constexpr T kTwoRoot = static_cast<T>(2 * 0.79788456080286535588);
  constexpr T kCubic = static_cast<T>(0.044715);
  const Vec<T> square = x * x;
  const Vec<T> gate = sigmoid(kTwoRoot * x * (1 + kCubic * square));
  const Vec<T> slope = kTwoRoot * (1 + 3 * kCubic * square);
  return {x * gate, gate + x * gate * (1 - gate) * slope};
}

template <class T, Activation kKind>
WITAN_INLINE Point<T> point(Vec<T> x) {
  if constexpr (kKind == Activation::kRelu) return relu<T>(x);
  if constexpr (kKind == Activation::kGelu) return gelu<T>(x);
  if constexpr (kKind == Activation::kGeluTanh) return gelu_tanh<T>(x);
  return silu<T>(x);
}

// SwiGLU's halves with its options: f(gate) and up + offset, and where their slopes are not 0.
template <class T>
struct Glu {
  Point<T> gate;
  Vec<T> up;
  Vec<T> up_slope;
};

template <class T, bool kPlain>
WITAN_INLINE Glu<T> glu(Vec<T> gate, Vec<T> up, const SwigluOptions& options) {
  if constexpr (kPlain) return {silu<T>(gate), up, broadcast<T>(1)};
  const T slope = static_cast<T>(options.gate_slope);
  const T limit = static_cast<T>(options.clamp > 0.0 ? options.clamp : __builtin_inf());
  const Vec<T> gate_open = gate > limit ? Vec<T>{} : broadcast<T>(1);
  const Vec<T> up_open = up > limit || up < -limit ? Vec<T>{} : broadcast<T>(1);
  const Vec<T> x = gate > limit ? broadcast(limit) : gate;
  const Vec<T> clamped = up > limit ? broadcast(limit) : up < -limit ? broadcast(-limit) : up;
  const Vec<T> s = sigmoid(slope * x);
  return {{x * s, gate_open * s * (1 + slope * x * (1 - s))},
          clamped + static_cast<T>(options.up_offset),
          up_open};
}

template <class T, class H, Activation kKind, bool kPlain>
void forward_rows(const T* in, const T* row_weight, H* h, std::int64_t rows, std::int64_t ff,
                  const SwigluOptions& options) {
  constexpr int kFactor = ops::input_factor(kKind);
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* x = in + row * kFactor * ff;
    H* y = h + row * ff;
    const T weight = row_weight == nullptr ? T{1} : row_weight[row];
    for_each_vec<T>(ff, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      const Vec<T> first = load(x + i, part);
      Vec<T> value;
      if constexpr (kKind == Activation::kSwiglu) {
        const Glu<T> f = glu<T, kPlain>(first, load(x + ff + i, part), options);
        value = f.gate.value * f.up;
      } else {
        value = point<T, kKind>(first).value;
      }
      store_as(y + i, value * weight, part);
    });
  }
}

template <class T, class D, Activation kKind, bool kPlain>
void backward_rows(const T* in, const T* row_weight, const T* dh, D* din, T* drow_weight,
                   std::int64_t rows, std::int64_t ff, const SwigluOptions& options, D* buffer) {
  constexpr int kFactor = ops::input_factor(kKind);
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* x = in + row * kFactor * ff;
    const T* dy = dh + row * ff;
    D* dx = buffer == nullptr ? din + row * kFactor * ff : buffer;
    const T weight = row_weight == nullptr ? T{1} : row_weight[row];
    Vec<T> dot = {};
    for_each_vec<T>(ff, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      const Vec<T> first = load(x + i, part);
      const Vec<T> grad = load(dy + i, part);
      const Vec<T> weighted = grad * weight;
      if constexpr (kKind == Activation::kSwiglu) {
        const Glu<T> f = glu<T, kPlain>(first, load(x + ff + i, part), options);
        dot += grad * (f.gate.value * f.up);
        store_as(dx + i, weighted * (f.gate.slope * f.up), part);
        store_as(dx + ff + i, weighted * f.gate.value * f.up_slope, part);
      } else {
        const Point<T> f = point<T, kKind>(first);
        dot += grad * f.value;
        store_as(dx + i, weighted * f.slope, part);
      }
    });
    if (drow_weight != nullptr) drow_weight[row] = sum_lanes(dot);
    if (buffer != nullptr) {
      __builtin_memcpy(din + row * kFactor * ff, buffer,
                       static_cast<std::size_t>(kFactor * ff) * sizeof(D));
    }
  }
}

template <class T, class H>
using Forward = decltype(&forward_rows<T, H, Activation::kSilu, true>);
template <class T, class D>
using Backward = decltype(&backward_rows<T, D, Activation::kSilu, true>);

template <class T, class H>
Forward<T, H> forward_of(Activation kind, bool plain) {
  switch (kind) {
    case Activation::kSilu: return forward_rows<T, H, Activation::kSilu, true>;
    case Activation::kRelu: return forward_rows<T, H, Activation::kRelu, true>;
    case Activation::kGelu: return forward_rows<T, H, Activation::kGelu, true>;
    case Activation::kGeluTanh: return forward_rows<T, H, Activation::kGeluTanh, true>;
    case Activation::kSwiglu: break;
  }
  return plain ? forward_rows<T, H, Activation::kSwiglu, true>
               : forward_rows<T, H, Activation::kSwiglu, false>;
}

template <class T, class D>
Backward<T, D> backward_of(Activation kind, bool plain) {
  switch (kind) {
    case Activation::kSilu: return backward_rows<T, D, Activation::kSilu, true>;
    case Activation::kRelu: return backward_rows<T, D, Activation::kRelu, true>;
    case Activation::kGelu: return backward_rows<T, D, Activation::kGelu, true>;
    case Activation::kGeluTanh: return backward_rows<T, D, Activation::kGeluTanh, true>;
    case Activation::kSwiglu: break;
  }
  return plain ? backward_rows<T, D, Activation::kSwiglu, true>
               : backward_rows<T, D, Activation::kSwiglu, false>;
}

// Here and not in the struct: a member function would be a weak symbol of every level.
bool is_plain(const SwigluOptions& options) {
  return options.up_offset == 0.0 && options.gate_slope == 1.0 && options.clamp == 0.0;
}

}  // namespace

template <class T, class H>
void activation(Activation kind, const T* in, const T* row_weight, H* h, std::int64_t rows,
                std::int64_t ff, const SwigluOptions& options) {
  forward_of<T, H>(kind, is_plain(options))(in, row_weight, h, rows, ff, options);
}

template <class T, class D>
void activation_backward(Activation kind, const T* in, const T* row_weight, const T* dh, D* din,
                         T* drow_weight, std::int64_t rows, std::int64_t ff,
                         const SwigluOptions& options, D* row) {
  backward_of<T, D>(kind, is_plain(options))(in, row_weight, dh, din, drow_weight, rows, ff,
                                             options, row);
}

#define WITAN_INSTANTIATE(T, H)                                                            \
  template void activation(Activation, const T*, const T*, H*, std::int64_t, std::int64_t, \
                           const SwigluOptions&);                                          \
  template void activation_backward(Activation, const T*, const T*, const T*, H*, T*,      \
                                    std::int64_t, std::int64_t, const SwigluOptions&, H*);
WITAN_INSTANTIATE(float, float)
WITAN_INSTANTIATE(float, Bfloat16)
WITAN_INSTANTIATE(double, double)

}  // namespace witan::cpu::WITAN_ISA
