// importance_cv2: coefficient * CV^2 over experts of their importance: the sum over tokens of the
// scores (V-MoE, Riquelme et al. 2021) or of the chosen weights (Shazeer et al. 2017).
#include "core/model/balance/balancer.h"
#include "core/ops/balance.h"

namespace witan {
namespace {

using configs::ImportanceCv2;

class ImportanceCv2Balancer final : public Balancer {
 public:
  explicit ImportanceCv2Balancer(const ImportanceCv2& config) : config_(config) {}

  const char* name() const override { return "importance_cv2"; }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    const RouterSaved& router = input.router;
    const bool weights = config_.importance() == ImportanceCv2::WEIGHTS;
    const TensorView& x = weights ? router.weights : router.s;
    const TensorView indices = weights ? router.indices : TensorView{};
    TensorView& dx = weights ? gradient.dweights : gradient.ds;
    open_gradient(ctx, x, scratch, dx);
    const double coefficient = scheduled(config_.coefficient(), config_.schedule(), input.progress);
    ArenaScope scope(scratch);
    const TensorView sums = scratch.allocate({input.experts + 1}, DType::kFloat64, "balancing");
    const TensorView of_experts = sums.slice_rows(0, input.experts);
    ops::importance(ctx, x, indices, of_experts);
    const double value = add_cv2_loss(ctx, input, coefficient,
                                      config_.scope() == ImportanceCv2::GLOBAL_MICRO_BATCH, sums);
    ops::importance_backward(ctx, coefficient * input.gradient_scale, of_experts, indices, dx);
    return value;
  }

 private:
  ImportanceCv2 config_;
};

}  // namespace

std::unique_ptr<Balancer> make_importance_cv2(const configs::BalancerConfig& config) {
  return std::make_unique<ImportanceCv2Balancer>(config.importance_cv2());
}

}  // namespace witan
