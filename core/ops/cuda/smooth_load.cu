// The expected load of noisy routers. A token's thresholds are found as its choice is: one warp a
// token, one pass over its noisy logits for each place.
#include "core/ops/cuda/smooth_load.h"

#include <cstdint>
#include <numbers>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/choices.h"
#include "core/ops/cuda/column_sums.h"
#include "core/ops/cuda/product.h"
#include "core/ops/cuda/row_warps.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

__device__ double normal_cdf(double x) { return 0.5 * erfc(-x / std::numbers::sqrt2); }
__device__ double normal_density(double x) {
  return exp(-0.5 * x * x) / sqrt(2.0 * std::numbers::pi);
}

// What the operands of a kernel are, [tokens, experts] each.
template <class T>
struct Rows {
  const T* z;
  const T* clean_z;
  const T* scale;
  std::int64_t tokens;
  std::int32_t experts;
  std::int32_t top_k;
  bool learned;

  __device__ Choice<T> choice(std::int64_t token, std::int32_t e) const {
    return {rank_of(z[token * experts + e]), e};
  }
};

// Experts whose noisy logits are thresholds of a token: the k-th, and the one behind it, kNobody
// where the token may use no more.
struct Thresholds {
  std::int32_t last;
  std::int32_t next;
};

// On every lane; all lanes of the warp call it.
template <class T>
__device__ Thresholds thresholds_of(const Rows<T>& rows, std::int64_t token) {
  const T* z = rows.z + token * rows.experts;
  const auto value = [&](std::int32_t e) { return rank_of(z[e]); };
  const auto lane = static_cast<std::int32_t>(threadIdx.x);
  Choice<T> found{0, -1};
  std::int32_t last = kNobody;
  for (std::int32_t j = 0; j <= rows.top_k; ++j) {
    last = found.index;
    found = first_of_warp(next_choice(lane, rows.experts, kWarpSize, j == 0, found, value));
  }
  const bool open = found.value > -static_cast<T>(INFINITY);
  return {last, open ? found.index : kNobody};
}

// How likely an expert is chosen: P is that of a normal below x, or 1 where nobody is the
// threshold.
struct Likely {
  bool allowed;            // else P is 0
  std::int32_t threshold;  // an expert
  double x;
  double size;
};

template <class T>
__device__ Likely likely(const Rows<T>& rows, std::int64_t token, const Thresholds& thresholds,
                         std::int32_t e) {
  const Choice<T> self = rows.choice(token, e);
  const bool chosen = !comes_before(rows.choice(token, thresholds.last), self);
  if (!chosen && self.value == -static_cast<T>(INFINITY)) return {false, kNobody, 0.0, 1.0};
  // Without itself, one of the first k looks at the next one.
  const std::int32_t other = rows.learned && chosen ? thresholds.next : thresholds.last;
  if (other == kNobody) return {true, kNobody, 0.0, 1.0};
  const std::int64_t first = token * rows.experts;
  const double size = static_cast<double>(rows.scale[first + e]);
  const double above =
      static_cast<double>(rows.clean_z[first + e]) - static_cast<double>(rows.z[first + other]);
  return {true, other, above / size, size};
}

// thresholds [tokens]; one warp a token, reads 4 bytes an element of float32, again from the cache
template <class T>
__global__ void thresholds_kernel(Rows<T> rows, Thresholds* thresholds) {
  const std::int64_t token = row_of_warp();
  if (token >= rows.tokens) return;
  const Thresholds found = thresholds_of(rows, token);
  if (threadIdx.x == 0) thresholds[token] = found;
}

// partial [row blocks, experts]: sums of P; reads 12 bytes an element of float32
template <class T>
__global__ void smooth_load_kernel(Rows<T> rows, const Thresholds* thresholds, double* partial) {
  store_column_partials(
      rows.tokens, rows.experts, partial, [&](std::int64_t token, std::int64_t e) {
        const Likely p = likely(rows, token, thresholds[token], static_cast<std::int32_t>(e));
        if (!p.allowed) return 0.0;
        return p.threshold == kNobody ? 1.0 : normal_cdf(p.x);
      });
}

// gradient [experts]; dz, dclean_z, dscale accumulate. One warp a token: 28 bytes an element of
// float32, z again from the cache.
template <class T>
__global__ void smooth_load_backward_kernel(Rows<T> rows, double factor, const double* gradient,
                                            T* dz, T* dclean_z, T* dscale) {
  const std::int64_t token = row_of_warp();
  if (token >= rows.tokens) return;
  const Thresholds thresholds = thresholds_of(rows, token);
  const std::int64_t first = token * rows.experts;
  double to_last = 0.0;
  double to_next = 0.0;
  for (auto e = static_cast<std::int32_t>(threadIdx.x); e < rows.experts; e += kWarpSize) {
    const Likely p = likely(rows, token, thresholds, e);
    if (p.threshold == kNobody) continue;
    const double slope = factor * gradient[e] * normal_density(p.x) / p.size;
    dclean_z[first + e] += static_cast<T>(slope);
    dscale[first + e] -= static_cast<T>(slope * p.x);
    (p.threshold == thresholds.last ? to_last : to_next) += slope;
  }
  to_last = warp_sum(to_last);
  to_next = warp_sum(to_next);
  if (threadIdx.x != 0) return;
  dz[first + thresholds.last] -= static_cast<T>(to_last);
  if (thresholds.next != kNobody) dz[first + thresholds.next] -= static_cast<T>(to_next);
}

template <class T>
Rows<T> rows_of(const NoisyChoice& choice, const NoisyLogits& logits) {
  const TensorView& z = logits.z;
  return {z.as<T>(),
          logits.clean_z.as<T>(),
          logits.scale.as<T>(),
          z.rows(),
          static_cast<std::int32_t>(z.cols()),
          static_cast<std::int32_t>(choice.top_k),
          choice.kind == NoiseScale::kLearned};
}

}  // namespace

void smooth_load(const Context& ctx, const NoisyChoice& choice, const NoisyLogits& logits,
                 const TensorView& sums) {
  const std::int64_t tokens = logits.z.rows();
  const std::int64_t experts = logits.z.cols();
  if (tokens == 0) return zero_bytes(ctx, sums.data, sums.bytes());
  const auto partials = static_cast<std::size_t>(row_blocks_of(tokens) * experts);
  auto* partial = static_cast<double*>(witan::cuda::scratch(
      ctx, partials * sizeof(double) + static_cast<std::size_t>(tokens) * sizeof(Thresholds)));
  auto* thresholds = reinterpret_cast<Thresholds*>(partial + partials);
  dispatch_float(logits.z.dtype, "smooth_load", [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> rows = rows_of<T>(choice, logits);
    launch(thresholds_kernel<T>, warp_grid(tokens), warp_block(), 0, ctx.stream, rows, thresholds);
    launch(smooth_load_kernel<T>, column_grid(tokens, experts), column_block(), 0, ctx.stream, rows,
           thresholds, partial);
  });
  add_partials(ctx.stream, partial, tokens, experts, false, sums.as<double>());
}

void smooth_load_backward(const Context& ctx, const NoisyChoice& choice, double factor,
                          const NoisyLogits& logits, const TensorView& gradient,
                          const TensorView& dz, const TensorView& dclean_z,
                          const TensorView& dscale) {
  const std::int64_t tokens = logits.z.rows();
  if (tokens == 0) return;
  dispatch_float(logits.z.dtype, "smooth_load_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(smooth_load_backward_kernel<T>, warp_grid(tokens), warp_block(), 0, ctx.stream,
           rows_of<T>(choice, logits), factor, gradient.as<double>(), dz.as<T>(), dclean_z.as<T>(),
           dscale.as<T>());
  });
}

}  // namespace witan::ops::cuda
