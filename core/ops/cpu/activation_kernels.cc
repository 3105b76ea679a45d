#include "core/ops/cpu/activation_kernels.h"

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {
namespace {

using ops::Activation;

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

template <class T, Activation kKind>
void forward_rows(const T* in, const T* row_weight, T* h, std::int64_t rows, std::int64_t ff,
                  T up_offset) {
  constexpr int kFactor = ops::input_factor(kKind);
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* x = in + row * kFactor * ff;
    T* y = h + row * ff;
    const T weight = row_weight == nullptr ? T{1} : row_weight[row];
    for_each_vec<T>(ff, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      const Vec<T> gate = load(x + i, part);
      Vec<T> value;
      if constexpr (kKind == Activation::kRelu) {
        value = relu<T>(gate).value;
      } else {
        value = silu<T>(gate).value;
      }
      if constexpr (kKind == Activation::kSwiglu) value *= load(x + ff + i, part) + up_offset;
      store(y + i, value * weight, part);
    });
  }
}

template <class T, Activation kKind>
void backward_rows(const T* in, const T* row_weight, const T* dh, T* din, T* drow_weight,
                   std::int64_t rows, std::int64_t ff, T up_offset) {
  constexpr int kFactor = ops::input_factor(kKind);
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* x = in + row * kFactor * ff;
    const T* dy = dh + row * ff;
    T* dx = din + row * kFactor * ff;
    const T weight = row_weight == nullptr ? T{1} : row_weight[row];
    Vec<T> dot = {};
    for_each_vec<T>(ff, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      const Vec<T> gate = load(x + i, part);
      const Vec<T> grad = load(dy + i, part);
      Point<T> f;
      if constexpr (kKind == Activation::kRelu) {
        f = relu<T>(gate);
      } else {
        f = silu<T>(gate);
      }
      const Vec<T> weighted = grad * weight;
      if constexpr (kKind == Activation::kSwiglu) {
        const Vec<T> up = load(x + ff + i, part) + up_offset;
        dot += grad * (f.value * up);
        store(dx + i, weighted * (f.slope * up), part);
        store(dx + ff + i, weighted * f.value, part);
      } else {
        dot += grad * f.value;
        store(dx + i, weighted * f.slope, part);
      }
    });
    if (drow_weight != nullptr) drow_weight[row] = sum_lanes(dot);
  }
}

}  // namespace

template <class T>
void activation(Activation kind, const T* in, const T* row_weight, T* h, std::int64_t rows,
                std::int64_t ff, T up_offset) {
  switch (kind) {
    case Activation::kSwiglu:
      forward_rows<T, Activation::kSwiglu>(in, row_weight, h, rows, ff, up_offset);
      break;
    case Activation::kSilu:
      forward_rows<T, Activation::kSilu>(in, row_weight, h, rows, ff, up_offset);
      break;
    case Activation::kRelu:
      forward_rows<T, Activation::kRelu>(in, row_weight, h, rows, ff, up_offset);
      break;
  }
}

template <class T>
void activation_backward(Activation kind, const T* in, const T* row_weight, const T* dh, T* din,
                         T* drow_weight, std::int64_t rows, std::int64_t ff, T up_offset) {
  switch (kind) {
    case Activation::kSwiglu:
      backward_rows<T, Activation::kSwiglu>(in, row_weight, dh, din, drow_weight, rows, ff,
                                            up_offset);
      break;
    case Activation::kSilu:
      backward_rows<T, Activation::kSilu>(in, row_weight, dh, din, drow_weight, rows, ff,
                                          up_offset);
      break;
    case Activation::kRelu:
      backward_rows<T, Activation::kRelu>(in, row_weight, dh, din, drow_weight, rows, ff,
                                          up_offset);
      break;
  }
}

#define WITAN_INSTANTIATE(T)                                                                   \
  template void activation(Activation, const T*, const T*, T*, std::int64_t, std::int64_t, T); \
  template void activation_backward(Activation, const T*, const T*, const T*, T*, T*,          \
                                    std::int64_t, std::int64_t, T);
WITAN_INSTANTIATE(float)
WITAN_INSTANTIATE(double)

}  // namespace witan::cpu::WITAN_ISA
