#include "core/model/capacity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/ops/topk.h"

namespace witan {

using configs::CapacityConfig;

Capacity::Capacity(const configs::MoeConfig& config, std::int64_t top_k)
    : config_(config.capacity()), top_k_(top_k), experts_(config.experts()) {}

std::int64_t Capacity::places(std::int64_t tokens, bool training) const {
  const double share =
      static_cast<double>(top_k_ * tokens) * factor(training) / static_cast<double>(experts_);
  // The product may lie a rounding error above a whole number.
  const auto whole = static_cast<std::int64_t>(std::ceil(share * (1.0 - 1e-12)));
  return std::max(config_.min_capacity(), whole);
}

// pairs_: indices into `chosen`, the first to get a place first.
void Capacity::order_pairs(const TensorView& chosen, const TensorView& weights,
                           const TensorView& s) const {
  const std::int64_t tokens = chosen.rows();
  const std::int64_t columns = chosen.cols();
  pairs_.resize(static_cast<std::size_t>(chosen.size()));
  std::iota(pairs_.begin(), pairs_.end(), 0);
  if (config_.policy() == CapacityConfig::TOKEN_MAJOR) return;
  dispatch_float(s.dtype, "capacity", [&](auto zero) {
    using T = decltype(zero);
    if (config_.policy() == CapacityConfig::PROBABILITY) {
      const T* weight = weights.as<T>();
      std::stable_sort(pairs_.begin(), pairs_.end(),
                       [&](std::int64_t a, std::int64_t b) { return weight[a] > weight[b]; });
      return;
    }
    tokens_.resize(static_cast<std::size_t>(tokens));
    std::iota(tokens_.begin(), tokens_.end(), 0);
    if (config_.policy() == CapacityConfig::BATCH_PRIORITY) {
      const std::int64_t experts = s.cols();
      const T* score = s.as<T>();
      const auto best = [&](std::int64_t t) {
        return *std::max_element(score + t * experts, score + (t + 1) * experts);
      };
      std::stable_sort(tokens_.begin(), tokens_.end(),
                       [&](std::int64_t a, std::int64_t b) { return best(a) > best(b); });
    }
    std::size_t place = 0;
    for (std::int64_t j = 0; j < columns; ++j) {
      for (const std::int64_t t : tokens_) pairs_[place++] = t * columns + j;
    }
  });
}

void Capacity::drop(const TensorView& chosen, const TensorView& weights, const TensorView& s,
                    bool training, const TensorView& kept) const {
  const std::int64_t places_each = places(chosen.rows(), training);
  order_pairs(chosen, weights, s);
  taken_.assign(static_cast<std::size_t>(s.cols()), 0);
  const auto* expert = chosen.as<std::int32_t>();
  auto* out = kept.as<std::int32_t>();
  for (const std::int64_t pair : pairs_) {
    out[pair] = ops::kNoChoice;
    if (expert[pair] == ops::kNoChoice) continue;
    if (expert[pair] >= experts_) {  // computes nothing, and has room for all
      out[pair] = expert[pair];
      continue;
    }
    std::int64_t& taken = taken_[static_cast<std::size_t>(expert[pair])];
    if (taken == places_each) continue;
    ++taken;
    out[pair] = expert[pair];
  }
}

}  // namespace witan
