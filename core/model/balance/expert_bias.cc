// expert_bias: balancing without a loss (Wang et al. 2024; DeepSeek-V3). The bias takes part in the
// selection only; it is moved against the load after every `interval` steps.
#include <cmath>
#include <numbers>
#include <vector>

#include "core/model/balance/balancer.h"

namespace witan {
namespace {

using configs::ExpertBias;

class ExpertBiasBalancer final : public Balancer {
 public:
  explicit ExpertBiasBalancer(const ExpertBias& config) : config_(config) {}

  const char* name() const override { return "expert_bias"; }

  void after_step(std::int64_t step, std::int64_t steps, std::span<const std::int64_t> counts,
                  const ExpertMask& mask, const TensorView& expert_bias) override {
    since_update_.resize(counts.size(), 0);
    for (std::size_t i = 0; i < counts.size(); ++i) since_update_[i] += counts[i];
    if ((step + 1) % config_.interval() != 0) return;
    update_expert_bias(config_, rate(step, steps), since_update_, mask, expert_bias);
    since_update_.assign(counts.size(), 0);
  }

  std::vector<std::int64_t>* state() override { return &since_update_; }

 private:
  double rate(std::int64_t step, std::int64_t steps) const {
    const double progress =
        steps > 1 ? static_cast<double>(step) / static_cast<double>(steps - 1) : 1.0;
    switch (config_.schedule()) {
      case ExpertBias::LINEAR: return config_.rate() * (1.0 - progress);
      case ExpertBias::COSINE:
        return config_.rate() * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
      default: return config_.rate();
    }
  }

  ExpertBias config_;
  std::vector<std::int64_t> since_update_;
};

// Of one expert, both in the same unit.
struct Gap {
  double even = 0.0;     // what it should have got
  double missing = 0.0;  // that less what it got
};

// Of expert i, of `total` counts. In units of 1 / experts gaps are integers: rounding cannot flip
// their sign.
Gap gap_to_mean(std::span<const std::int64_t> counts, std::int64_t total, std::size_t i) {
  const auto experts = static_cast<std::int64_t>(counts.size());
  return {static_cast<double>(total), static_cast<double>(total - experts * counts[i])};
}

std::vector<Gap> gaps_to_even(std::span<const std::int64_t> counts, const ExpertMask& mask) {
  constexpr double kRounding = 1e-9;  // a sum of a few quotients; true gaps are larger
  const std::vector<double> even = mask.even_counts(counts);
  std::vector<Gap> gaps;
  for (std::size_t e = 0; e < even.size(); ++e) {
    double missing = even[e];
    for (std::size_t i = e; i < counts.size(); i += even.size()) {
      missing -= static_cast<double>(counts[i]);
    }
    gaps.push_back({even[e], std::abs(missing) <= kRounding * even[e] ? 0.0 : missing});
  }
  return gaps;
}

double move_of(const ExpertBias& config, double rate, const Gap& gap) {
  if (config.move() == ExpertBias::PROPORTIONAL) {
    return gap.even > 0.0 ? rate * gap.missing / gap.even : 0.0;
  }
  return gap.missing > 0.0 ? rate : gap.missing < 0.0 ? -rate : 0.0;
}

// bias [experts] moves by the gap of each expert, gap(i).
template <class GapOf>
void move_bias(const ExpertBias& config, double rate, const GapOf& gap, const TensorView& bias) {
  const auto experts = static_cast<std::size_t>(bias.size());
  double mean = 0.0;
  for (std::size_t i = 0; i < experts && config.centred(); ++i) {
    mean += move_of(config, rate, gap(i)) / static_cast<double>(experts);
  }
  dispatch_float(bias.dtype, "expert bias", [&](auto zero) {
    using T = decltype(zero);
    T* b = bias.as<T>();
    for (std::size_t i = 0; i < experts; ++i) {
      b[i] = static_cast<T>(static_cast<double>(b[i]) + move_of(config, rate, gap(i)) - mean);
    }
  });
}

}  // namespace

void update_expert_bias(const ExpertBias& config, double rate, std::span<const std::int64_t> counts,
                        const ExpertMask& mask, const TensorView& bias) {
  if (mask.empty()) {
    std::int64_t total = 0;
    for (const std::int64_t n : counts) total += n;
    return move_bias(
        config, rate, [&](std::size_t i) { return gap_to_mean(counts, total, i); }, bias);
  }
  const std::vector<Gap> gaps = gaps_to_even(counts, mask);
  move_bias(
      config, rate, [&](std::size_t i) { return gaps[i]; }, bias);
}

std::unique_ptr<Balancer> make_expert_bias(const configs::BalancerConfig& config) {
  return std::make_unique<ExpertBiasBalancer>(config.expert_bias());
}

}  // namespace witan
