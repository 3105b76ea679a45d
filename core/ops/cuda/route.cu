// Scores, choice and weights of a token by one warp that keeps its row in registers: z is read
// once. Lane l holds experts l, l + 32, ... as router_score_kernel visits them, and sums run in
// that kernel's order and in route_weights_kernel's: the results are those of the separate ops, bit
// for bit, so that a recompute which keeps the choice may call them. A warp reads 128 bytes side by
// side.
#include "core/ops/cuda/route.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/choices.h"
#include "core/ops/cuda/operand.h"
#include "core/ops/cuda/router_functions.h"
#include "core/ops/cuda/row_warps.h"
#include "core/ops/cuda/topk.h"

namespace witan::ops::cuda {
namespace {

constexpr std::int64_t kMostHeld = 16;  // experts of a lane

// s, lse: as router_score_kernel. value [kHeld]: the lane's scores.
template <class T, int kHeld>
__device__ void score_row(Score score, const T* z, std::int32_t experts, T* value, T* s, T* lse) {
  const auto lane = static_cast<std::int32_t>(threadIdx.x);
  T logit[kHeld];
  T shift = -static_cast<T>(INFINITY);
  WITAN_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    const std::int32_t e = lane + i * kWarpSize;
    logit[i] = e < experts ? z[e] : -static_cast<T>(INFINITY);
    shift = logit[i] > shift ? logit[i] : shift;
  }
  shift = warp_max(shift);
  double sum = 0.0;
  WITAN_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    value[i] = exp(logit[i] - shift);
    if (lane + i * kWarpSize < experts) sum += static_cast<double>(value[i]);
  }
  sum = warp_sum(sum);
  if (lane == 0) *lse = static_cast<T>(static_cast<double>(shift) + log(sum));
  const T inverse = static_cast<T>(1.0 / sum);
  WITAN_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    value[i] = score == Score::kSoftmax ? value[i] * inverse : score_without_sum(score, logit[i]);
    const std::int32_t e = lane + i * kWarpSize;
    if (e < experts) s[e] = value[i];
  }
}

// z, s [tokens, experts], lse [tokens], indices, weights [tokens, top_k]: 8 bytes an element of
// float32
template <class T, int kHeld>
__global__ void route_topk_kernel(RouteKind kind, const T* z, const T* bias, std::int64_t tokens,
                                  std::int32_t experts, std::int32_t top_k, T* s, T* lse,
                                  std::int32_t* indices, T* weights) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  const auto lane = static_cast<std::int32_t>(threadIdx.x);
  T value[kHeld];
  score_row<T, kHeld>(kind.score, z + token * experts, experts, value, s + token * experts,
                      lse + token);
  T rank[kHeld];
  std::uint32_t open = 0;  // bit i: value[i] can be chosen
  WITAN_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    const std::int32_t e = lane + i * kWarpSize;
    const bool here = e < experts;
    rank[i] = rank_of(here && bias != nullptr ? value[i] + bias[e] : value[i]);
    open |= here ? 1u << i : 0u;
  }
  std::int32_t expert = kNoChoice;  // choice number `lane`
  T chosen = 0;
  for (std::int32_t j = 0; j < top_k; ++j) {
    Choice<T> best{-static_cast<T>(INFINITY), kNobody};
    WITAN_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      const Choice<T> candidate{rank[i], lane + i * kWarpSize};
      if ((open >> i & 1u) != 0 && comes_before(candidate, best)) best = candidate;
    }
    best = first_of_warp(best);
    T found = 0;  // on the lane that holds it
    WITAN_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      if (lane + i * kWarpSize != best.index) continue;
      open &= ~(1u << i);
      found = value[i];
    }
    found = __shfl_sync(kFullWarp, found, best.index % kWarpSize);
    if (lane == j) {
      expert = best.index;
      chosen = found;
    }
  }
  const double plain = plain_weight(kind.weights, chosen);
  double sum = 0.0;
  for (std::int32_t j = 0; j < top_k; ++j) sum += __shfl_sync(kFullWarp, plain, j);
  if (lane >= top_k) return;
  indices[token * top_k + lane] = expert;
  weights[token * top_k + lane] =
      static_cast<T>(plain * weight_factor(kind.weights, kind.scale, sum));
}

// f(integral constant) with the experts that a lane has to hold.
template <class F>
void dispatch_held(std::int64_t experts, const F& f) {
  const std::int64_t held = blocks_of(experts, kWarpSize);
  if (held <= 1) return f(std::integral_constant<int, 1>{});
  if (held <= 2) return f(std::integral_constant<int, 2>{});
  if (held <= 4) return f(std::integral_constant<int, 4>{});
  if (held <= 8) return f(std::integral_constant<int, 8>{});
  f(std::integral_constant<int, kMostHeld>{});
}

}  // namespace

void route_topk(const Context& ctx, const RouteKind& kind, const TensorView& z,
                const TensorView& bias, const TensorView& s, const TensorView& lse,
                const TensorView& indices, const TensorView& weights) {
  const std::int64_t tokens = z.rows();
  const std::int64_t experts = z.cols();
  const std::int64_t top_k = indices.cols();
  if (tokens == 0) return;
  if (experts > kMostHeld * kWarpSize || top_k > kWarpSize) {
    cuda::router_score(ctx, kind.score, z, s, lse);
    cuda::topk(ctx, s, bias, indices);
    return cuda::route_weights(ctx, kind.weights, kind.scale, s, indices, weights);
  }
  dispatch_float(z.dtype, "route_topk", [&](auto zero) {
    using T = decltype(zero);
    dispatch_held(experts, [&](auto held) {
      launch(route_topk_kernel<T, decltype(held)::value>, warp_grid(tokens), warp_block(), 0,
             ctx.stream, kind, z.as<T>(), data_or_null<T>(bias), tokens,
             static_cast<std::int32_t>(experts), static_cast<std::int32_t>(top_k), s.as<T>(),
             lse.as<T>(), indices.as<std::int32_t>(), weights.as<T>());
    });
  });
}

}  // namespace witan::ops::cuda
