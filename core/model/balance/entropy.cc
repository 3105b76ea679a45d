// entropy: coefficient * mean over tokens of -sum_i p_i log p_i, p = s / sum s (Huang et al. 2024):
// a sharper router needs fewer experts to reach the mass of top_p.
#include "core/model/balance/balancer.h"
#include "core/ops/balance.h"

namespace witan {
namespace {

class EntropyBalancer final : public Balancer {
 public:
  explicit EntropyBalancer(const configs::EntropyLoss& config) : config_(config) {}

  const char* name() const override { return "entropy"; }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    const TensorView& s = input.router.s;
    if (s.rows() == 0) return 0.0;
    open_gradient(ctx, s, scratch, gradient.ds);
    const double coefficient = scheduled(config_.coefficient(), config_.schedule(), input.progress);
    double value = 0.0;
    ops::entropy_loss(ctx, coefficient, coefficient * input.gradient_scale, s, gradient.ds,
                      loss_of(input, value));
    return value;
  }

 private:
  configs::EntropyLoss config_;
};

}  // namespace

std::unique_ptr<Balancer> make_entropy(const configs::BalancerConfig& config) {
  return std::make_unique<EntropyBalancer>(config.entropy());
}

}  // namespace witan
