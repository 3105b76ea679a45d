// Sinkhorn's iterations on CUDA: the number of them is given, so the host has nothing to look at.
#include "core/ops/cuda/sinkhorn.h"

#include <cstddef>
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/column_sums.h"
#include "core/ops/cuda/router_functions.h"
#include "core/ops/cuda/row_warps.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

constexpr double kLeastSum = 1e-30;  // keeps a column of zeros from dividing by 0

// p = exp(z - row maximum); one warp a token: 12 bytes an element of float32, z twice
template <class T>
__global__ void sinkhorn_exp_kernel(const T* z, std::int64_t tokens, std::int64_t experts,
                                    double* p) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  z += token * experts;
  p += token * experts;
  T shift = -static_cast<T>(INFINITY);
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    shift = z[e] > shift ? z[e] : shift;
  }
  const double largest = static_cast<double>(warp_max(shift));
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    p[e] = exp(static_cast<double>(z[e]) - largest);
  }
}

// partial [row blocks, experts]: column sums of p over blocks of tokens; 8 bytes an element
__global__ void sinkhorn_columns_kernel(const double* p, std::int64_t tokens, std::int64_t experts,
                                        double* partial) {
  store_column_partials(tokens, experts, partial,
                        [&](std::int64_t token, std::int64_t e) { return p[token * experts + e]; });
}

// p's columns from sums [experts] to `share`, then its rows to 1. One warp a token: 16 bytes an
// element, and again out of caches.
__global__ void sinkhorn_rows_kernel(const double* sums, double share, std::int64_t tokens,
                                     std::int64_t experts, double* p) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  p += token * experts;
  double sum = 0.0;
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    p[e] *= share / (kLeastSum + sums[e]);
    sum += p[e];
  }
  sum = kLeastSum + warp_sum(sum);
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) p[e] /= sum;
}

}  // namespace

void sinkhorn(const Context& ctx, const TensorView& z, std::int64_t iterations,
              const TensorView& p) {
  const std::int64_t tokens = z.rows();
  const std::int64_t experts = z.cols();
  if (tokens == 0) return;
  auto* const values = p.as<double>();
  dispatch_float(z.dtype, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    launch(sinkhorn_exp_kernel<T>, warp_grid(tokens), warp_block(), 0, ctx.stream, z.as<T>(),
           tokens, experts, values);
  });
  const std::int64_t partials = row_blocks_of(tokens) * experts;
  auto* const partial = static_cast<double*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(partials + experts) * sizeof(double)));
  double* const sums = partial + partials;
  const double share = static_cast<double>(tokens) / static_cast<double>(experts);
  for (std::int64_t i = 0; i < iterations; ++i) {
    launch(sinkhorn_columns_kernel, column_grid(tokens, experts), column_block(), 0, ctx.stream,
           values, tokens, experts, partial);
    add_partials(ctx.stream, partial, tokens, experts, false, sums);
    launch(sinkhorn_rows_kernel, warp_grid(tokens), warp_block(), 0, ctx.stream, sums, share,
           tokens, experts, values);
  }
}

}  // namespace witan::ops::cuda
