// z_loss: coefficient * mean over tokens of logsumexp(z)^2 (ST-MoE, Zoph et al. 2022).
#include "core/model/balance/balancer.h"
#include "core/ops/reduce.h"

namespace witan {
namespace {

class ZLossBalancer final : public Balancer {
 public:
  explicit ZLossBalancer(const configs::ZLoss& config) : coefficient_(config.coefficient()) {}

  const char* name() const override { return "z_loss"; }

  double backward(const Context& ctx, const BalanceInput& input, BalanceGradient& gradient,
                  Arena& scratch) override {
    (void)scratch;
    // d/dz of logsumexp(z)^2 is 2 logsumexp(z) softmax(z).
    gradient.z_loss_scale += 2.0 * coefficient_ * input.gradient_scale;
    return coefficient_ * ops::sum_of_squares(ctx, input.router.lse);
  }

 private:
  double coefficient_;
};

}  // namespace

std::unique_ptr<Balancer> make_z_loss(const configs::BalancerConfig& config) {
  return std::make_unique<ZLossBalancer>(config.z_loss());
}

}  // namespace witan
