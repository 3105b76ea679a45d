// The gate of rows on CUDA: one block a row. The forward reads and writes a row once (8 bytes an
// element of float32), the backward reads two rows and writes one (12 bytes).
#include "core/ops/cuda/sigmoid_gate.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/grid.h"

namespace witan::ops::cuda {
namespace {

// x, y [rows, d], gate [rows]
template <class T>
__global__ void sigmoid_gate_forward_kernel(const T* x, std::int64_t d, T* gate, T* y) {
  WITAN_SHARED(T, value);
  const std::int64_t row = blockIdx.x;
  if (threadIdx.x == 0) {
    value = T{1} / (T{1} + exp(-gate[row]));
    gate[row] = value;
  }
  __syncthreads();
  const T g = value;
  for (std::int64_t i = threadIdx.x; i < d; i += blockDim.x) y[row * d + i] = g * x[row * d + i];
}

// dy, x [rows, d], gate, dz [rows]; x is overwritten with its gradient
template <class T>
__global__ void sigmoid_gate_backward_kernel(const T* dy, const T* gate, std::int64_t d, T* x,
                                             T* dz) {
  WITAN_SHARED(double[kMaxWarps], partial);
  const std::int64_t row = blockIdx.x;
  const T g = gate[row];
  double dot = 0.0;
  for (std::int64_t i = threadIdx.x; i < d; i += blockDim.x) {
    const T gradient = dy[row * d + i];
    dot += static_cast<double>(gradient) * static_cast<double>(x[row * d + i]);
    x[row * d + i] = g * gradient;
  }
  dot = block_sum(dot, partial);
  if (threadIdx.x == 0) dz[row] = static_cast<T>(dot) * g * (T{1} - g);
}

}  // namespace

void sigmoid_gate(const Context& ctx, const TensorView& x, const TensorView& gate,
                  const TensorView& y) {
  if (x.rows() == 0) return;
  dispatch_float(x.dtype, "sigmoid_gate", [&](auto zero) {
    using T = decltype(zero);
    launch(sigmoid_gate_forward_kernel<T>, dim3(grid_extent(x.rows(), kMaxGridX)),
           row_block(x.cols()), 0, ctx.stream, x.as<T>(), x.cols(), gate.as<T>(), y.as<T>());
  });
}

void sigmoid_gate_backward(const Context& ctx, const TensorView& dy, const TensorView& gate,
                           const TensorView& x, const TensorView& dz) {
  if (dy.rows() == 0) return;
  dispatch_float(dy.dtype, "sigmoid_gate_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(sigmoid_gate_backward_kernel<T>, dim3(grid_extent(dy.rows(), kMaxGridX)),
           row_block(dy.cols()), 0, ctx.stream, dy.as<T>(), gate.as<T>(), dy.cols(), x.as<T>(),
           dz.as<T>());
  });
}

}  // namespace witan::ops::cuda
