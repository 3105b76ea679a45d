// Router arithmetic on CUDA. A row of scores is short: one warp takes a token where its work is
// over the experts, one thread where it is over the few chosen ones. All of it reads and writes
// little beside the tokens themselves.
#include "core/ops/cuda/topk.h"

#include <cstdint>
#include <vector>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/choices.h"
#include "core/ops/cuda/column_sums.h"
#include "core/ops/cuda/operand.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/cuda/product.h"
#include "core/ops/cuda/router_functions.h"
#include "core/ops/cuda/row_warps.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/transfer.h"

namespace witan::ops::cuda {
namespace {

// The sum of x [n] on every lane.
template <class T>
__device__ double warp_row_sum(const T* x, std::int64_t n) {
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < n; i += kWarpSize) sum += static_cast<double>(x[i]);
  return warp_sum(sum);
}

// z, s [tokens, experts], lse [tokens]: 8 bytes an element of float32, s twice; one warp a token
template <class T>
__global__ void router_score_kernel(Score score, const T* z, std::int64_t tokens,
                                    std::int64_t experts, T* s, T* lse) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  z += token * experts;
  s += token * experts;
  T shift = -static_cast<T>(INFINITY);
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize)
    shift = z[e] > shift ? z[e] : shift;
  shift = warp_max(shift);
  double sum = 0.0;
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    s[e] = exp(z[e] - shift);
    sum += static_cast<double>(s[e]);
  }
  sum = warp_sum(sum);
  if (threadIdx.x == 0) lse[token] = static_cast<T>(static_cast<double>(shift) + log(sum));
  const T inverse = static_cast<T>(1.0 / sum);
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    s[e] = score == Score::kSoftmax ? s[e] * inverse : score_without_sum(score, z[e]);
  }
}

// indices [tokens, top_k]; one warp a token, one pass over its scores for each choice
template <class T>
__global__ void topk_kernel(const T* s, const T* bias, std::int64_t tokens, std::int32_t experts,
                            std::int32_t top_k, std::int32_t* indices) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  s += token * experts;
  indices += token * top_k;
  const auto value = [&](std::int32_t e) {
    return rank_of(bias == nullptr ? s[e] : s[e] + bias[e]);
  };
  Choice<T> last{0, -1};
  for (std::int32_t j = 0; j < top_k; ++j) {
    last = first_of_warp(next_choice(static_cast<std::int32_t>(threadIdx.x), experts, kWarpSize,
                                     j == 0, last, value));
    if (threadIdx.x == 0) indices[j] = last.index;
  }
}

// The sum of the `best` largest values of experts [begin, end), by one thread.
template <class T, class Value>
__device__ T group_score(std::int32_t begin, std::int32_t end, std::int32_t best,
                         const Value& value) {
  T sum = 0;
  Choice<T> last{0, -1};
  for (std::int32_t i = 0; i < best; ++i) {
    last = next_choice(begin, end, 1, i == 0, last, value);
    sum += last.value;
  }
  return sum;
}

// topk_kernel among the experts of the `keep` best of `groups` groups of `size`.
template <class T>
__global__ void group_topk_kernel(const T* s, const T* bias, std::int64_t tokens,
                                  std::int32_t groups, std::int32_t size, std::int32_t best,
                                  std::int32_t keep, std::int32_t top_k, std::int32_t* indices) {
  WITAN_SHARED(T[kRowsOfBlock][kMostGroups], scores);
  WITAN_SHARED(bool[kRowsOfBlock][kMostGroups], open);
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  const std::int32_t experts = groups * size;
  s += token * experts;
  indices += token * top_k;
  const auto lane = static_cast<std::int32_t>(threadIdx.x);
  const auto value = [&](std::int32_t e) {
    return rank_of(bias == nullptr ? s[e] : s[e] + bias[e]);
  };
  for (std::int32_t g = lane; g < groups; g += kWarpSize) {
    scores[threadIdx.y][g] = rank_of(group_score<T>(g * size, (g + 1) * size, best, value));
    open[threadIdx.y][g] = false;
  }
  __syncwarp();
  const auto score = [&](std::int32_t g) { return scores[threadIdx.y][g]; };
  Choice<T> last{0, -1};
  for (std::int32_t j = 0; j < keep; ++j) {
    last = first_of_warp(next_choice(lane, groups, kWarpSize, j == 0, last, score));
    if (lane == 0) open[threadIdx.y][last.index] = true;
  }
  __syncwarp();
  last = {0, -1};
  for (std::int32_t j = 0; j < top_k; ++j) {
    Choice<T> mine{-static_cast<T>(INFINITY), kNobody};
    for (std::int32_t g = 0; g < groups; ++g) {
      if (!open[threadIdx.y][g]) continue;
      const Choice<T> found =
          next_choice(g * size + lane, (g + 1) * size, kWarpSize, j == 0, last, value);
      if (comes_before(found, mine)) mine = found;
    }
    last = first_of_warp(mine);
    if (lane == 0) indices[j] = last.index;
  }
}

// One thread a token, in the CPU's order of sums: where to cut must not hang on rounding.
template <class T>
__global__ void keep_mass_kernel(double mass, const T* s, std::int64_t tokens, std::int64_t experts,
                                 std::int64_t top_k, std::int32_t* indices) {
  const std::int64_t token = first_index();
  if (token >= tokens) return;
  s += token * experts;
  indices += token * top_k;
  double sum = 0.0;
  for (std::int64_t e = 0; e < experts; ++e) sum += static_cast<double>(s[e]);
  const double enough = mass * sum;
  double kept = 0.0;
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (j > 0 && kept >= enough) {
      indices[j] = kNoChoice;
    } else {
      kept += static_cast<double>(s[indices[j]]);
    }
  }
}

// The sum of the chosen scores.
template <class T>
__device__ double sum_chosen(const T* s, const std::int32_t* chosen, std::int64_t top_k) {
  double sum = 0.0;
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (chosen[j] >= 0) sum += static_cast<double>(s[chosen[j]]);
  }
  return sum;
}

// Choices of a table; integers.
__global__ void table_choices_kernel(const std::int32_t* tokens, const std::int32_t* table,
                                     std::int64_t experts, std::int64_t top_k, std::int64_t n,
                                     std::int32_t* indices) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    const std::int64_t first = table == nullptr ? 0 : table[tokens[i / top_k]] * top_k;
    indices[i] = static_cast<std::int32_t>((first + i % top_k) % experts);
  }
}

// weights [tokens, top_k]; one thread a token, which reads its chosen scores only
template <class T>
__global__ void route_weights_kernel(RouteWeights kind, double scale, const T* s,
                                     const std::int32_t* indices, std::int64_t tokens,
                                     std::int64_t experts, std::int64_t top_k, T* weights) {
  const std::int64_t token = first_index();
  if (token >= tokens) return;
  s += token * experts;
  indices += token * top_k;
  weights += token * top_k;
  double sum = 0.0;
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (indices[j] >= 0) sum += plain_weight(kind, s[indices[j]]);
  }
  const double factor = weight_factor(kind, scale, sum);
  for (std::int64_t j = 0; j < top_k; ++j) {
    weights[j] = indices[j] < 0 ? T{0} : static_cast<T>(plain_weight(kind, s[indices[j]]) * factor);
  }
}

// What the gradient of a token's chosen scores has in common.
struct WeightGradient {
  RouteWeights kind;
  double scale;
  double dot;      // <dweights, weights>
  double inverse;  // 1 / the sum of the chosen scores

  template <class T>
  __device__ T of(T weight, T dweight) const {
    const double dw = static_cast<double>(dweight);
    double gradient = scale * dw;
    if (kind == RouteWeights::kRenormalized) gradient = (gradient - dot) * inverse;
    if (kind == RouteWeights::kSoftmaxOfScores) {
      gradient = static_cast<double>(weight) * (dw - dot / scale);
    }
    return static_cast<T>(gradient);
  }
};

// ds/dz of sqrt(softplus(z)), from s: sigmoid(z) = 1 - exp(-s^2).
template <class T>
__device__ T sqrt_softplus_slope(T s) {
  const double value = static_cast<double>(s);
  return value > 0.0 ? static_cast<T>(-expm1(-value * value) / (2.0 * value)) : T{0};
}

template <class T>
__device__ T score_gradient(Score score, T s, T ds, T mean) {
  if (score == Score::kSqrtSoftplus) return ds * sqrt_softplus_slope(s);
  return score == Score::kSoftmax ? s * (ds - mean) : ds * s * (T{1} - s);
}

// Operands as in core/ops/topk.h; z, lse and ds_extra may be null. One warp a token: 8 bytes of
// float32 an element of dz, 4 more with each of z and ds_extra.
template <class T>
__global__ void router_backward_kernel(Score score, RouteWeights kind, double scale, const T* z,
                                       const T* s, const T* lse, const std::int32_t* indices,
                                       const T* weights, const T* dweights, const T* ds_extra,
                                       double z_loss_scale, std::int64_t tokens,
                                       std::int64_t experts, std::int64_t top_k, T* dz) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  const std::int64_t row = token * experts;
  s += row;
  dz += row;
  indices += token * top_k;
  weights += token * top_k;
  dweights += token * top_k;
  WeightGradient gradient{kind, scale, 0.0, 1.0 / (sum_chosen(s, indices, top_k) + kTiny)};
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (indices[j] >= 0) {
      gradient.dot += static_cast<double>(dweights[j]) * static_cast<double>(weights[j]);
    }
  }
  double dot = 0.0;
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    T ds = ds_extra == nullptr ? T{0} : ds_extra[row + e];
    for (std::int64_t j = 0; j < top_k && kind != RouteWeights::kUniform; ++j) {
      if (indices[j] == e) ds += gradient.of(weights[j], dweights[j]);
    }
    dz[e] = ds;
    dot += static_cast<double>(ds) * static_cast<double>(s[e]);
  }
  const T mean = static_cast<T>(warp_sum(dot));
  const T slope =
      lse == nullptr ? T{0} : static_cast<T>(z_loss_scale * static_cast<double>(lse[token]));
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    T out = score_gradient(score, s[e], dz[e], mean);
    if (lse != nullptr) out += exp(z[row + e] - lse[token]) * slope;
    dz[e] = out;
  }
}

// counts [experts], zeroed before. Integers: their order does not matter.
__global__ void count_experts_kernel(const std::int32_t* indices, std::int64_t n,
                                     unsigned* counts) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    if (indices[i] != kNoChoice) atomicAdd(counts + indices[i], 1u);
  }
}

// factor [tokens] = what turns a token's scores into probabilities; one warp a token
template <class T>
__global__ void probability_factor_kernel(const T* s, std::int64_t tokens, std::int64_t experts,
                                          double* factor) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  const double sum = warp_row_sum(s + token * experts, experts);
  if (threadIdx.x == 0) factor[token] = 1.0 / (sum + kTiny);
}

// partial [row blocks, experts]: sums of s factor over blocks of tokens; a null factor means 1
template <class T>
__global__ void probability_sums_kernel(const T* s, const double* factor, std::int64_t tokens,
                                        std::int64_t experts, double* partial) {
  store_column_partials(tokens, experts, partial, [&](std::int64_t token, std::int64_t e) {
    return static_cast<double>(s[token * experts + e]) * (factor == nullptr ? 1.0 : factor[token]);
  });
}

// ds += the gradient of sum_i coefficient[i] p_i; p_j = s_j / sum: (c_i - sum_j c_j p_j) / sum. One
// warp a token.
template <class T>
__global__ void probability_backward_kernel(Score score, const T* s, const T* coefficient,
                                            std::int64_t tokens, std::int64_t experts, T* ds) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  s += token * experts;
  ds += token * experts;
  double inverse = 1.0;
  double mean = 0.0;
  if (score != Score::kSoftmax) {
    inverse = 1.0 / (warp_row_sum(s, experts) + kTiny);
    for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
      mean += static_cast<double>(coefficient[e]) * static_cast<double>(s[e]) * inverse;
    }
    mean = warp_sum(mean);
  }
  for (std::int64_t e = threadIdx.x; e < experts; e += kWarpSize) {
    ds[e] += static_cast<T>((static_cast<double>(coefficient[e]) - mean) * inverse);
  }
}

constexpr int kFigures = 4;  // of ops::add_router_figures

// partial [kFigures, blocks]: the figures of each block's kRowsPerBlock tokens; reads 4 bytes an
// element of z
template <class T>
__global__ void router_figures_kernel(bool masked, const T* z, const T* lse, const T* weights,
                                      std::int64_t tokens, std::int64_t experts, std::int64_t top_k,
                                      double* partial) {
  WITAN_SHARED(double[kFigures][kMaxWarps], warps);
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock;
  const std::int64_t end = begin + kRowsPerBlock < tokens ? begin + kRowsPerBlock : tokens;
  double sums[kFigures] = {};
  for (std::int64_t i = begin * experts + threadIdx.x; i < end * experts; i += blockDim.x) {
    if (masked && z[i] == -static_cast<T>(INFINITY)) continue;
    sums[1] += static_cast<double>(z[i]) * static_cast<double>(z[i]);
    sums[3] += 1.0;
  }
  for (std::int64_t t = begin + threadIdx.x; t < end; t += blockDim.x) {
    sums[0] += static_cast<double>(lse[t]);
    T largest = weights[t * top_k];
    for (std::int64_t j = 1; j < top_k; ++j) {
      const T weight = weights[t * top_k + j];
      largest = weight > largest ? weight : largest;
    }
    sums[2] += static_cast<double>(largest);
  }
  for (int figure = 0; figure < kFigures; ++figure) {
    const double sum = block_sum(sums[figure], warps[figure]);
    if (threadIdx.x == 0) partial[figure * static_cast<std::int64_t>(gridDim.x) + blockIdx.x] = sum;
  }
}

// sums [kFigures] += the sums of partial [kFigures, blocks], a block of threads for each
__global__ void add_figures_kernel(const double* partial, std::int64_t blocks, double* sums) {
  WITAN_SHARED(double[kMaxWarps], warps);
  partial += static_cast<std::int64_t>(blockIdx.x) * blocks;
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < blocks; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) sums[blockIdx.x] += sum;
}

std::int32_t as_int32(std::int64_t extent) { return static_cast<std::int32_t>(extent); }

}  // namespace

void router_score(const Context& ctx, Score score, const TensorView& z, const TensorView& s,
                  const TensorView& lse) {
  if (z.rows() == 0) return;
  dispatch_float(z.dtype, "router_score", [&](auto zero) {
    using T = decltype(zero);
    launch(router_score_kernel<T>, warp_grid(z.rows()), warp_block(), 0, ctx.stream, score,
           z.as<T>(), z.rows(), z.cols(), s.as<T>(), lse.as<T>());
  });
}

void topk(const Context& ctx, const TensorView& s, const TensorView& bias,
          const TensorView& indices) {
  if (s.rows() == 0) return;
  dispatch_float(s.dtype, "topk", [&](auto zero) {
    using T = decltype(zero);
    launch(topk_kernel<T>, warp_grid(s.rows()), warp_block(), 0, ctx.stream, s.as<T>(),
           data_or_null<T>(bias), s.rows(), as_int32(s.cols()), as_int32(indices.cols()),
           indices.as<std::int32_t>());
  });
}

void group_topk(const Context& ctx, const ExpertGroups& groups, const TensorView& s,
                const TensorView& bias, const TensorView& indices) {
  if (s.rows() == 0) return;
  dispatch_float(s.dtype, "group_topk", [&](auto zero) {
    using T = decltype(zero);
    launch(group_topk_kernel<T>, warp_grid(s.rows()), warp_block(), 0, ctx.stream, s.as<T>(),
           data_or_null<T>(bias), s.rows(), as_int32(groups.groups),
           as_int32(s.cols() / groups.groups), as_int32(groups.best), as_int32(groups.keep),
           as_int32(indices.cols()), indices.as<std::int32_t>());
  });
}

void keep_mass(const Context& ctx, double mass, const TensorView& s, const TensorView& indices) {
  if (s.rows() == 0) return;
  dispatch_float(s.dtype, "keep_mass", [&](auto zero) {
    using T = decltype(zero);
    launch(keep_mass_kernel<T>, dim3(grid_extent(blocks_of(s.rows(), kFlatThreads), kMaxGridX)),
           dim3(kFlatThreads), 0, ctx.stream, mass, s.as<T>(), s.rows(), s.cols(), indices.cols(),
           indices.as<std::int32_t>());
  });
}

void route_weights(const Context& ctx, RouteWeights kind, double scale, const TensorView& s,
                   const TensorView& indices, const TensorView& weights) {
  if (s.rows() == 0) return;
  dispatch_float(s.dtype, "route_weights", [&](auto zero) {
    using T = decltype(zero);
    launch(route_weights_kernel<T>, dim3(grid_extent(blocks_of(s.rows(), kFlatThreads), kMaxGridX)),
           dim3(kFlatThreads), 0, ctx.stream, kind, scale, s.as<T>(), indices.as<std::int32_t>(),
           s.rows(), s.cols(), indices.cols(), weights.as<T>());
  });
}

void table_choices(const Context& ctx, const TensorView& tokens, const TensorView& table,
                   std::int64_t experts, const TensorView& indices) {
  if (indices.size() == 0) return;
  const bool has_table = !table.empty();
  launch(table_choices_kernel, flat_grid(indices.size()), dim3(kFlatThreads), 0, ctx.stream,
         has_table ? tokens.as<std::int32_t>() : nullptr,
         has_table ? table.as<std::int32_t>() : nullptr, experts, indices.cols(), indices.size(),
         indices.as<std::int32_t>());
}

void router_backward(const Context& ctx, Score score, RouteWeights kind, double scale,
                     const TensorView& z, const TensorView& s, const TensorView& lse,
                     const TensorView& indices, const TensorView& weights,
                     const TensorView& dweights, const TensorView& ds_extra, double z_loss_scale,
                     const TensorView& dz) {
  if (s.rows() == 0) return;
  const bool z_loss = z_loss_scale != 0.0;
  dispatch_float(s.dtype, "router_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(router_backward_kernel<T>, warp_grid(s.rows()), warp_block(), 0, ctx.stream, score, kind,
           scale, z_loss ? z.as<T>() : nullptr, s.as<T>(), z_loss ? lse.as<T>() : nullptr,
           indices.as<std::int32_t>(), weights.as<T>(), dweights.as<T>(), data_or_null<T>(ds_extra),
           z_loss_scale, s.rows(), s.cols(), indices.cols(), dz.as<T>());
  });
}

void count_experts(const Context& ctx, const TensorView& indices, const TensorView& counts) {
  const std::int64_t experts = counts.size();
  auto* count = counts.as<std::int64_t>();
  if (experts == 0) return;
  const std::size_t bytes = static_cast<std::size_t>(experts) * sizeof(unsigned);
  auto* device_counts = static_cast<unsigned*>(witan::cuda::scratch(ctx, bytes));
  zero_bytes(ctx, device_counts, bytes);
  if (indices.size() > 0) {
    launch(count_experts_kernel, flat_grid(indices.size()), dim3(kFlatThreads), 0, ctx.stream,
           indices.as<std::int32_t>(), indices.size(), device_counts);
  }
  std::vector<std::int32_t> found(static_cast<std::size_t>(experts));
  transfer(ctx, {device_counts, {experts}, DType::kInt32, ctx.device},
           view_of(found.data(), {experts}));
  for (std::int64_t e = 0; e < experts; ++e) count[e] = found[static_cast<std::size_t>(e)];
}

void router_probability_sums(const Context& ctx, Score score, const TensorView& s,
                             const TensorView& p_sum) {
  const std::int64_t tokens = s.rows();
  const std::int64_t experts = s.cols();
  if (tokens == 0) return zero_bytes(ctx, p_sum.data, p_sum.bytes());
  const std::int64_t partials = row_blocks_of(tokens) * experts;
  auto* partial = static_cast<double*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(partials + tokens) * sizeof(double)));
  double* factor = score == Score::kSoftmax ? nullptr : partial + partials;
  dispatch_float(s.dtype, "router_probability_sums", [&](auto zero) {
    using T = decltype(zero);
    if (factor != nullptr) {
      launch(probability_factor_kernel<T>, warp_grid(tokens), warp_block(), 0, ctx.stream,
             s.as<T>(), tokens, experts, factor);
    }
    launch(probability_sums_kernel<T>, column_grid(tokens, experts), column_block(), 0, ctx.stream,
           s.as<T>(), factor, tokens, experts, partial);
    add_partials(ctx.stream, partial, tokens, experts, false, p_sum.as<T>());
  });
}

void router_probability_backward(const Context& ctx, Score score, const TensorView& s,
                                 const TensorView& coefficient, const TensorView& ds) {
  if (s.rows() == 0) return;
  dispatch_float(s.dtype, "router_probability_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(probability_backward_kernel<T>, warp_grid(s.rows()), warp_block(), 0, ctx.stream, score,
           s.as<T>(), coefficient.as<T>(), s.rows(), s.cols(), ds.as<T>());
  });
}

void add_router_figures(const Context& ctx, bool masked, const TensorView& z, const TensorView& lse,
                        const TensorView& weights, const TensorView& sums) {
  if (z.rows() == 0) return;
  const std::int64_t blocks = row_blocks_of(z.rows());
  auto* partial = static_cast<double*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(kFigures * blocks) * sizeof(double)));
  dispatch_float(z.dtype, "add_router_figures", [&](auto zero) {
    using T = decltype(zero);
    launch(router_figures_kernel<T>, dim3(grid_extent(blocks, kMaxGridX)), dim3(kFlatThreads), 0,
           ctx.stream, masked, z.as<T>(), lse.as<T>(), weights.as<T>(), z.rows(), z.cols(),
           weights.cols(), partial);
  });
  launch(add_figures_kernel, dim3(kFigures), dim3(kFlatThreads), 0, ctx.stream, partial, blocks,
         sums.as<double>());
}

}  // namespace witan::ops::cuda
