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
                  const TensorView& expert_bias) override {
    since_update_.resize(counts.size(), 0);
    for (std::size_t i = 0; i < counts.size(); ++i) since_update_[i] += counts[i];
    if ((step + 1) % config_.interval() != 0) return;
    update_expert_bias(config_, rate(step, steps), since_update_, expert_bias);
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

}  // namespace

void update_expert_bias(const ExpertBias& config, double rate, std::span<const std::int64_t> counts,
                        const TensorView& bias) {
  std::int64_t total = 0;
  for (const std::int64_t n : counts) total += n;
  if (total == 0) return;
  const auto experts = static_cast<std::int64_t>(counts.size());
  // mean(n) - n_i is gap / experts, gap an integer: rounding cannot flip its sign.
  const auto move = [&](std::int64_t i) {
    const std::int64_t gap = total - experts * counts[static_cast<std::size_t>(i)];
    if (config.move() == ExpertBias::PROPORTIONAL) {
      return rate * static_cast<double>(gap) / static_cast<double>(total);
    }
    return rate * (gap > 0 ? 1.0 : gap < 0 ? -1.0 : 0.0);
  };
  double mean = 0.0;
  for (std::int64_t i = 0; i < experts && config.centred(); ++i) {
    mean += move(i) / static_cast<double>(experts);
  }
  dispatch_float(bias.dtype, "expert bias", [&](auto zero) {
    using T = decltype(zero);
    T* b = bias.as<T>();
    for (std::int64_t i = 0; i < experts; ++i) {
      b[i] = static_cast<T>(static_cast<double>(b[i]) + move(i) - mean);
    }
  });
}

std::unique_ptr<Balancer> make_expert_bias(const configs::BalancerConfig& config) {
  return std::make_unique<ExpertBiasBalancer>(config.expert_bias());
}

}  // namespace witan
