// load_cv2: coefficient * CV^2 over experts of the smooth load: the sum over tokens of the
// probability that fresh noise keeps an expert's logit above the token's
// threshold. Fixed noise (V-MoE): the threshold is the k-th largest noisy logit. Learned noise
// (Shazeer et al. 2017): the k-th largest of the others. Without noise, in evaluation, it is 0.
#include <algorithm>

#include "core/model/balance/balancer.h"
#include "core/ops/smooth_load.h"

namespace witan {
namespace {

class LoadCv2Balancer final : public Balancer {
 public:
  explicit LoadCv2Balancer(const configs::LoadCv2& config) : config_(config) {}

  const char* name() const override { return "load_cv2"; }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    const RouterSaved& router = input.router;
    if (router.noise_scale.shape.rank() == 0) return 0.0;
    open_gradient(ctx, router.z, scratch, gradient.dz);
    open_gradient(ctx, router.z, scratch, gradient.dclean_z);
    open_gradient(ctx, router.z, scratch, gradient.dnoise_scale);
    const double coefficient = scheduled(config_.coefficient(), config_.schedule(), input.progress);
    const ops::NoisyChoice choice{
        router.noise.empty() ? ops::NoiseScale::kFixed : ops::NoiseScale::kLearned,
        std::min(router.indices.cols(), input.experts)};
    const ops::NoisyLogits logits{router.z, router.clean_z, router.noise_scale, router.noise};
    ArenaScope scope(scratch);
    const TensorView sums = scratch.allocate({input.experts + 1}, DType::kFloat64, "balancing");
    const TensorView of_experts = sums.slice_rows(0, input.experts);
    ops::smooth_load(ctx, choice, logits, of_experts);
    const double value = add_cv2_loss(
        ctx, input, coefficient, config_.scope() == configs::LoadCv2::GLOBAL_MICRO_BATCH, sums);
    ops::smooth_load_backward(ctx, choice, coefficient * input.gradient_scale, logits, of_experts,
                              gradient.dz, gradient.dclean_z, gradient.dnoise_scale);
    return value;
  }

 private:
  configs::LoadCv2 config_;
};

}  // namespace

std::unique_ptr<Balancer> make_load_cv2(const configs::BalancerConfig& config) {
  return std::make_unique<LoadCv2Balancer>(config.load_cv2());
}

}  // namespace witan
