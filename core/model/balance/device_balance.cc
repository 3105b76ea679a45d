// device_balance: coefficient * D * sum over D groups of experts of f_g P_g (DeepSeek-V2), over one
// rank's micro-batch: f_g the share of the choices that fall on the group, a constant for the
// gradient, P_g the mean over tokens of the group's part of the scores.
#include <vector>

#include "core/model/balance/balancer.h"
#include "core/tensor/arena.h"

namespace witan {
namespace {

class DeviceBalancer final : public Balancer {
 public:
  explicit DeviceBalancer(const configs::DeviceBalance& config) : config_(config) {}

  const char* name() const override { return "device_balance"; }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    const TensorView& s = input.router.s;
    const std::int64_t experts = input.experts - input.zero_computation;
    std::int64_t choices = 0;
    for (std::int64_t e = 0; e < experts; ++e) choices += input.counts[static_cast<std::size_t>(e)];
    if (choices == 0) return 0.0;
    open_gradient(ctx, s, scratch, gradient.ds);
    const std::int64_t groups = config_.groups();
    const std::int64_t size = experts / groups;
    const double scale = scheduled(config_.coefficient(), config_.schedule(), input.progress) *
                         static_cast<double>(groups) / static_cast<double>(choices);
    std::vector<double> f(static_cast<std::size_t>(input.experts), 0.0);
    for (std::int64_t group = 0; group < groups; ++group) {
      std::int64_t count = 0;
      for (std::int64_t e = group * size; e < (group + 1) * size; ++e) {
        count += input.counts[static_cast<std::size_t>(e)];
      }
      for (std::int64_t e = group * size; e < (group + 1) * size; ++e) {
        f[static_cast<std::size_t>(e)] = scale * static_cast<double>(count);
      }
    }  // zero-computation experts are on every device
    return add_probability_loss(ctx, input, s, f, gradient.ds, scratch);
  }

 private:
  configs::DeviceBalance config_;
};

}  // namespace

std::unique_ptr<Balancer> make_device_balance(const configs::BalancerConfig& config) {
  return std::make_unique<DeviceBalancer>(config.device_balance());
}

}  // namespace witan
