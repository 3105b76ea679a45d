#include "launch/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace witan {

std::int32_t Sampler::operator()(std::span<const double> logits, double uniform) {
  WITAN_CHECK(!logits.empty(), "sampling from no logits");
  const auto largest = std::max_element(logits.begin(), logits.end());
  WITAN_CHECK(std::isfinite(*largest), "a logit is not finite: ", *largest);
  if (options_.greedy) return static_cast<std::int32_t>(largest - logits.begin());

  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](std::int32_t a, std::int32_t b) {
    const double za = logits[static_cast<std::size_t>(a)];
    const double zb = logits[static_cast<std::size_t>(b)];
    return za != zb ? za > zb : a < b;
  });
  if (options_.top_k > 0 && options_.top_k < static_cast<std::int64_t>(order_.size())) {
    order_.resize(static_cast<std::size_t>(options_.top_k));
  }

  double total = 0.0;
  weights_.clear();
  for (const std::int32_t id : order_) {
    weights_.push_back(
        std::exp((logits[static_cast<std::size_t>(id)] - *largest) / options_.temperature));
    total += weights_.back();
  }
  double kept = 0.0;
  std::size_t candidates = 0;
  while (candidates < weights_.size() && (candidates == 0 || kept < options_.top_p * total)) {
    kept += weights_[candidates++];
  }
  double left = uniform * kept;
  std::size_t chosen = 0;
  while (chosen + 1 < candidates && left >= weights_[chosen]) left -= weights_[chosen++];
  return order_[chosen];
}

}  // namespace witan
