// Arithmetic of a token's scores that several router kernels share, so that they agree to the bit.
#pragma once

#include <cstdint>

#include "core/base/cuda/dialect.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/topk.h"

namespace witan::ops::cuda {

// Keeps a token whose scores have all underflowed to 0 from dividing by 0.
inline constexpr double kTiny = 1e-20;

template <class T>
__device__ T warp_max(T value) {
  WITAN_UNROLL
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kFullWarp, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

template <class T>
__device__ T score_without_sum(Score score, T z) {
  if (score == Score::kSigmoid) return T{1} / (T{1} + exp(-z));
  const double logit = static_cast<double>(z);
  const double softplus = (logit > 0.0 ? logit : 0.0) + log1p(exp(logit > 0.0 ? -logit : logit));
  return static_cast<T>(sqrt(softplus));
}

// The weight of a chosen score before it is scaled.
template <class T>
__device__ double plain_weight(RouteWeights kind, T score) {
  if (kind == RouteWeights::kUniform) return 1.0;
  const double value = static_cast<double>(score);
  return kind == RouteWeights::kSoftmaxOfScores ? exp(value) : value;
}

// What multiplies it, from the sum of plain_weight over the token's choices.
__device__ inline double weight_factor(RouteWeights kind, double scale, double sum) {
  if (kind == RouteWeights::kRenormalized) return scale / (sum + kTiny);
  if (kind == RouteWeights::kAsIs) return scale;
  return scale / (sum > 0.0 ? sum : 1.0);
}

}  // namespace witan::ops::cuda
