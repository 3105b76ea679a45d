#include "core/model/capacity.h"

#include <algorithm>
#include <cmath>

#include "core/ops/capacity.h"

namespace witan {
namespace {

using configs::CapacityConfig;

ops::Priority priority_of(const CapacityConfig& config) {
  switch (config.policy()) {
    case CapacityConfig::CHOICE_MAJOR: return ops::Priority::kChoiceMajor;
    case CapacityConfig::PROBABILITY: return ops::Priority::kWeight;
    case CapacityConfig::BATCH_PRIORITY: return ops::Priority::kBestScore;
    default: return ops::Priority::kTokenMajor;
  }
}

}  // namespace

Capacity::Capacity(const configs::MoeConfig& config, std::int64_t top_k)
    : config_(config.capacity()), top_k_(top_k), experts_(config.experts()) {}

std::int64_t Capacity::places(std::int64_t tokens, bool training) const {
  const double share =
      static_cast<double>(top_k_ * tokens) * factor(training) / static_cast<double>(experts_);
  // The product may lie a rounding error above a whole number.
  const auto whole = static_cast<std::int64_t>(std::ceil(share * (1.0 - 1e-12)));
  return std::max(config_.min_capacity(), whole);
}

void Capacity::drop(const Context& ctx, const TensorView& chosen, const TensorView& weights,
                    const TensorView& s, bool training, const TensorView& kept) const {
  ops::keep_places(ctx, {priority_of(config_), places(chosen.rows(), training), experts_}, chosen,
                   weights, s, kept);
}

}  // namespace witan
