// z_loss: coefficient * mean over tokens of logsumexp(z)^2 (ST-MoE, Zoph et al. 2022).
#include "core/model/balance/balancer.h"
#include "core/ops/reduce.h"

namespace witan {
namespace {

class ZLossBalancer final : public Balancer {
 public:
  explicit ZLossBalancer(const configs::ZLoss& config) : config_(config) {}

  const char* name() const override { return "z_loss"; }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    (void)scratch;
    // d/dz of logsumexp(z)^2 is 2 logsumexp(z) softmax(z).
    const double coefficient = scheduled(config_.coefficient(), config_.schedule(), input.progress);
    gradient.z_loss_scale += 2.0 * coefficient * input.gradient_scale;
    const TensorView& lse = input.router.lse;
    if (lse.device.is_cpu()) return coefficient * ops::sum_of_squares(ctx, lse);
    ops::add_dot(ctx, coefficient, lse, lse, input.device_loss);
    return 0.0;
  }

 private:
  configs::ZLoss config_;
};

}  // namespace

std::unique_ptr<Balancer> make_z_loss(const configs::BalancerConfig& config) {
  return std::make_unique<ZLossBalancer>(config.z_loss());
}

}  // namespace witan
