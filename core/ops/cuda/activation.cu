// Activations on CUDA: one block a row, in pieces of 16 bytes where alignment allows. The bytes
// stated are for float32, rows x ff elements of h; row weights are small beside them.
#include "core/ops/cuda/activation.h"

#include <cstdint>
#include <limits>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/activation_functions.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/operand.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {
namespace {

template <Activation kKind>
constexpr int kInputFactor = input_factor(kKind);  // device code may not call the function

// 4 (factor + 1) bytes an element of h: factor is 2 for swiglu, else 1
template <class T, Activation kKind, int kWidth>
__global__ void activation_forward_kernel(const T* in, const T* row_weight, std::int64_t ff,
                                          GluLimits<T> limits, T* h) {
  const std::int64_t row = blockIdx.x;
  const T* x = in + row * kInputFactor<kKind> * ff;
  T* y = h + row * ff;
  const T weight = row_weight == nullptr ? T{1} : row_weight[row];
  for_each_piece_of_row<kWidth>(ff, [&](std::int64_t i) {
    const Pack<T, kWidth> first = load_pack<kWidth>(x + i);
    Pack<T, kWidth> out;
    if constexpr (kKind == Activation::kSwiglu) {
      const Pack<T, kWidth> up = load_pack<kWidth>(x + ff + i);
      WITAN_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        const Glu<T> f = glu_at(first.value[j], up.value[j], limits);
        out.value[j] = f.gate.value * f.up * weight;
      }
    } else {
      WITAN_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        out.value[j] = activation_at<kKind>(first.value[j]).value * weight;
      }
    }
    store_pack<kWidth>(y + i, out);
  });
}

// 4 (2 factor + 1) bytes an element of h. din may be in: a thread has read a piece before it
// writes it.
template <class T, Activation kKind, int kWidth>
__global__ void activation_backward_kernel(const T* in, const T* row_weight, const T* dh,
                                           std::int64_t ff, GluLimits<T> limits, T* din,
                                           T* drow_weight) {
  WITAN_SHARED(double[kMaxWarps], partial);
  const std::int64_t row = blockIdx.x;
  const T* x = in + row * kInputFactor<kKind> * ff;
  const T* dy = dh + row * ff;
  T* dx = din + row * kInputFactor<kKind> * ff;
  const T weight = row_weight == nullptr ? T{1} : row_weight[row];
  double dot = 0.0;
  for_each_piece_of_row<kWidth>(ff, [&](std::int64_t i) {
    const Pack<T, kWidth> first = load_pack<kWidth>(x + i);
    const Pack<T, kWidth> grad = load_pack<kWidth>(dy + i);
    Pack<T, kWidth> dfirst;
    if constexpr (kKind == Activation::kSwiglu) {
      const Pack<T, kWidth> up = load_pack<kWidth>(x + ff + i);
      Pack<T, kWidth> dup;
      WITAN_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        const Glu<T> f = glu_at(first.value[j], up.value[j], limits);
        const T weighted = grad.value[j] * weight;
        dot += static_cast<double>(grad.value[j] * (f.gate.value * f.up));
        dfirst.value[j] = weighted * (f.gate.slope * f.up);
        dup.value[j] = weighted * f.gate.value * f.up_slope;
      }
      store_pack<kWidth>(dx + ff + i, dup);
    } else {
      WITAN_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        const Point<T> f = activation_at<kKind>(first.value[j]);
        dot += static_cast<double>(grad.value[j] * f.value);
        dfirst.value[j] = grad.value[j] * weight * f.slope;
      }
    }
    store_pack<kWidth>(dx + i, dfirst);
  });
  if (drow_weight == nullptr) return;
  dot = block_sum(dot, partial);
  if (threadIdx.x == 0) drow_weight[row] = static_cast<T>(dot);
}

template <class T>
GluLimits<T> limits_of(const SwigluOptions& options) {
  return {static_cast<T>(options.up_offset), static_cast<T>(options.gate_slope),
          options.clamp > 0.0 ? static_cast<T>(options.clamp) : std::numeric_limits<T>::infinity()};
}

template <Activation kKind>
using Kind = std::integral_constant<Activation, kKind>;

// f(Kind<kind>{})
template <class F>
void dispatch_kind(Activation kind, const F& f) {
  switch (kind) {
    case Activation::kSwiglu: return f(Kind<Activation::kSwiglu>{});
    case Activation::kSilu: return f(Kind<Activation::kSilu>{});
    case Activation::kRelu: return f(Kind<Activation::kRelu>{});
    case Activation::kGelu: return f(Kind<Activation::kGelu>{});
    case Activation::kGeluTanh: return f(Kind<Activation::kGeluTanh>{});
  }
}

}  // namespace

void activation(const Context& ctx, Activation kind, const TensorView& in,
                const TensorView& row_weight, const TensorView& h, const SwigluOptions& options) {
  if (h.size() == 0) return;
  const std::int64_t ff = h.cols();
  dispatch_float(in.dtype, "activation", [&](auto zero) {
    using T = decltype(zero);
    const bool fits = is_aligned(in.data) && is_aligned(h.data) && ff % kWidest<T> == 0;
    dispatch_width<T>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      dispatch_kind(kind, [&](auto chosen) {
        constexpr Activation kKind = decltype(chosen)::value;
        launch(activation_forward_kernel<T, kKind, kWidth>, dim3(grid_extent(h.rows(), kMaxGridX)),
               row_block(ff / kWidth), 0, ctx.stream, in.as<T>(), data_or_null<T>(row_weight), ff,
               limits_of<T>(options), h.as<T>());
      });
    });
  });
}

void activation_backward(const Context& ctx, Activation kind, const TensorView& in,
                         const TensorView& row_weight, const TensorView& dh, const TensorView& din,
                         const TensorView& drow_weight, const SwigluOptions& options) {
  const std::int64_t ff = dh.cols();
  if (dh.rows() == 0) return;
  dispatch_float(in.dtype, "activation_backward", [&](auto zero) {
    using T = decltype(zero);
    const bool fits =
        is_aligned(in.data) && is_aligned(dh.data) && is_aligned(din.data) && ff % kWidest<T> == 0;
    dispatch_width<T>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      dispatch_kind(kind, [&](auto chosen) {
        constexpr Activation kKind = decltype(chosen)::value;
        // Without columns the gradients of the row weights are 0, and the kernel says so.
        launch(activation_backward_kernel<T, kKind, kWidth>,
               dim3(grid_extent(dh.rows(), kMaxGridX)), row_block(ff / kWidth), 0, ctx.stream,
               in.as<T>(), data_or_null<T>(row_weight), dh.as<T>(), ff, limits_of<T>(options),
               din.as<T>(), row_weight.empty() ? nullptr : data_or_null<T>(drow_weight));
      });
    });
  });
}

}  // namespace witan::ops::cuda
