// Experts without a matrix product: a block for each token, which ends at once where the token
// chose none of them.
#include "core/ops/cuda/zero_experts.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/column_sums.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/operand.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/topk.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

// Sums over a row by all threads of a block; `warps` [kMaxWarps] is shared memory.
template <class T>
__device__ double row_dot(const T* a, const T* b, std::int64_t d, double* warps) {
  double sum = 0.0;
  for (std::int64_t c = threadIdx.x; c < d; c += blockDim.x) {
    sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  }
  __syncthreads();  // of the sum before
  return block_sum(sum, warps);
}

// a of (a, b) = softmax(w x), w [2, d].
template <class T>
__device__ double share_of_x(const T* w, const T* x, std::int64_t d, double* warps) {
  const double first = row_dot(w, x, d, warps);
  return 1.0 / (1.0 + exp(row_dot(w + d, x, d, warps) - first));
}

// y += factor x, of a row
template <class T>
__device__ void add_row(double factor, const T* x, std::int64_t d, T* y) {
  for (std::int64_t c = threadIdx.x; c < d; c += blockDim.x) {
    y[c] += static_cast<T>(factor) * x[c];
  }
}

// 12 bytes of float32 an element of x for each choice of these experts, 4 more for each dot product
template <class T>
__global__ void zero_experts_kernel(ZeroExperts experts, const T* mix, const T* vector,
                                    const std::int32_t* indices, const T* weights,
                                    std::int64_t top_k, const T* x, std::int64_t d, T* y) {
  WITAN_SHARED(double[kMaxWarps], warps);
  const std::int64_t token = blockIdx.x;
  x += token * d;
  y += token * d;
  for (std::int64_t j = 0; j < top_k; ++j) {
    const std::int64_t expert = indices[token * top_k + j] - experts.first - experts.zero;
    if (expert < 0) continue;  // none, one that computes, or zero
    const double weight = static_cast<double>(weights[token * top_k + j]);
    if (expert < experts.copy) {
      add_row(weight, x, d, y);
      continue;
    }
    const std::int64_t constant = expert - experts.copy;
    const double a = share_of_x(mix + 2 * constant * d, x, d, warps);
    add_row(weight * a, x, d, y);
    add_row(weight * (1.0 - a), vector + constant * d, d, y);
  }
}

// What constant experts' parameters take from each token, [tokens, constant] each, 0 where it did
// not choose them: of the first row of W x (the second: its negative), and of v.
struct ConstantFactors {
  double* dlogit;
  double* share_of_v;
};

template <class T>
__global__ void zero_experts_backward_kernel(ZeroExperts experts, const T* mix, const T* vector,
                                             const std::int32_t* indices, const T* weights,
                                             std::int64_t top_k, const T* x, const T* dy,
                                             std::int64_t d, T* dx, T* dweights,
                                             ConstantFactors factors) {
  WITAN_SHARED(double[kMaxWarps], warps);
  const std::int64_t token = blockIdx.x;
  const bool writes = threadIdx.x == 0;
  x += token * d;
  dy += token * d;
  dx += token * d;
  factors.dlogit += token * experts.constant;
  factors.share_of_v += token * experts.constant;
  for (std::int64_t i = 0; i < experts.constant && writes; ++i) {
    factors.dlogit[i] = 0.0;
    factors.share_of_v[i] = 0.0;
  }
  for (std::int64_t j = token * top_k; j < (token + 1) * top_k; ++j) {
    if (indices[j] < experts.first) continue;  // none, or one that computes
    const std::int64_t expert = indices[j] - experts.first - experts.zero;
    if (expert < 0) {
      if (writes) dweights[j] = T{0};
      continue;
    }
    const double weight = static_cast<double>(weights[j]);
    const double along_x = row_dot(dy, x, d, warps);
    if (expert < experts.copy) {
      if (writes) dweights[j] = static_cast<T>(along_x);
      add_row(weight, dy, d, dx);
      continue;
    }
    const std::int64_t constant = expert - experts.copy;
    const T* w = mix + 2 * constant * d;
    const double along_v = row_dot(dy, vector + constant * d, d, warps);
    const double a = share_of_x(w, x, d, warps);
    const double b = 1.0 - a;
    const double dlogit = weight * a * b * (along_x - along_v);
    if (writes) {
      dweights[j] = static_cast<T>(a * along_x + b * along_v);
      factors.dlogit[constant] = dlogit;
      factors.share_of_v[constant] = weight * b;
    }
    add_row(weight * a, dy, d, dx);
    add_row(dlogit, w, d, dx);
    add_row(-dlogit, w + d, d, dx);
  }
}

// partial [row blocks, rows_each constant d]: over blocks of tokens, the sums of factor x for every
// constant expert, its negative in the second of `rows_each` rows
template <class T>
__global__ void constant_gradient_kernel(const double* factor, std::int64_t constant,
                                         std::int64_t rows_each, const T* x, std::int64_t tokens,
                                         std::int64_t d, double* partial) {
  store_column_partials(tokens, rows_each * constant * d, partial,
                        [&](std::int64_t token, std::int64_t column) {
                          const std::int64_t row = column / d;
                          const double value = factor[token * constant + row / rows_each];
                          if (value == 0.0) return 0.0;
                          const double sign = row % rows_each == 0 ? 1.0 : -1.0;
                          return sign * value * static_cast<double>(x[token * d + column % d]);
                        });
}

template <class T>
void add_constant_gradient(const Context& ctx, const double* factor, std::int64_t constant,
                           const TensorView& x, double* partial, const TensorView& gradient) {
  const std::int64_t columns = gradient.size();
  launch(constant_gradient_kernel<T>, column_grid(x.rows(), columns), column_block(), 0, ctx.stream,
         factor, constant, gradient.rows() / constant, x.as<T>(), x.rows(), x.cols(), partial);
  add_partials(ctx.stream, partial, x.rows(), columns, true, gradient.as<T>());
}

__global__ void keep_choices_below_kernel(std::int32_t experts, const std::int32_t* indices,
                                          std::int64_t n, std::int32_t* kept) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    kept[i] = indices[i] < experts ? indices[i] : kNoChoice;
  }
}

dim3 token_grid(std::int64_t tokens) { return dim3(grid_extent(tokens, kMaxGridX)); }

}  // namespace

void zero_experts(const Context& ctx, const ZeroExperts& experts, const ConstantExperts& params,
                  const TensorView& indices, const TensorView& weights, const TensorView& x,
                  const TensorView& y) {
  if (x.size() == 0) return;
  dispatch_float(x.dtype, "zero_experts", [&](auto zero) {
    using T = decltype(zero);
    launch(zero_experts_kernel<T>, token_grid(x.rows()), row_block(x.cols()), 0, ctx.stream,
           experts, data_or_null<T>(params.mix), data_or_null<T>(params.vector),
           indices.as<std::int32_t>(), weights.as<T>(), indices.cols(), x.as<T>(), x.cols(),
           y.as<T>());
  });
}

void zero_experts_backward(const Context& ctx, const ZeroExperts& experts,
                           const ConstantExperts& params, const TensorView& indices,
                           const TensorView& weights, const TensorView& x, const TensorView& dy,
                           const TensorView& dx, const TensorView& dweights,
                           const ConstantExperts& gradients) {
  if (x.size() == 0) return;
  const std::int64_t tokens = x.rows();
  const std::int64_t factors = tokens * experts.constant;
  const std::int64_t partials = row_blocks_of(tokens) * 2 * experts.constant * x.cols();
  auto* memory = static_cast<double*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(2 * factors + partials) * sizeof(double)));
  const ConstantFactors constant = {memory, memory + factors};
  double* partial = memory + 2 * factors;
  dispatch_float(x.dtype, "zero_experts_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(zero_experts_backward_kernel<T>, token_grid(tokens), row_block(x.cols()), 0, ctx.stream,
           experts, data_or_null<T>(params.mix), data_or_null<T>(params.vector),
           indices.as<std::int32_t>(), weights.as<T>(), indices.cols(), x.as<T>(), dy.as<T>(),
           x.cols(), dx.as<T>(), dweights.as<T>(), constant);
    if (experts.constant == 0) return;
    add_constant_gradient<T>(ctx, constant.dlogit, experts.constant, x, partial, gradients.mix);
    add_constant_gradient<T>(ctx, constant.share_of_v, experts.constant, dy, partial,
                             gradients.vector);
  });
}

void keep_choices_below(const Context& ctx, std::int64_t experts, const TensorView& indices,
                        const TensorView& kept) {
  if (indices.size() == 0) return;
  launch(keep_choices_below_kernel, flat_grid(indices.size()), dim3(kFlatThreads), 0, ctx.stream,
         static_cast<std::int32_t>(experts), indices.as<std::int32_t>(), indices.size(),
         kept.as<std::int32_t>());
}

}  // namespace witan::ops::cuda
