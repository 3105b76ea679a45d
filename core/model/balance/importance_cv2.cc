// importance_cv2: coefficient * CV^2 over experts of their importance: the sum over tokens of the
// scores (V-MoE, Riquelme et al. 2021) or of the chosen weights (Shazeer et al. 2017).
#include "core/model/balance/balancer.h"

namespace witan {
namespace {

using configs::ImportanceCv2;

class ImportanceCv2Balancer final : public Balancer {
 public:
  explicit ImportanceCv2Balancer(const ImportanceCv2& config) : config_(config) {}

  const char* name() const override { return "importance_cv2"; }
  bool reads_router() const override { return true; }

  double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                  Arena& scratch) override {
    const RouterSaved& router = input.router;
    const std::int64_t tokens = router.s.rows();
    const bool global = config_.scope() == ImportanceCv2::GLOBAL_MICRO_BATCH;
    const bool weights = config_.importance() == ImportanceCv2::WEIGHTS;
    open_gradient(ctx, weights ? router.weights : router.s, scratch,
                  weights ? gradient.dweights : gradient.ds);
    const double coefficient = scheduled(config_.coefficient(), config_.schedule(), input.progress);
    std::vector<double>& importance = cv2_.begin(input.experts);
    double value = 0.0;
    dispatch_float(router.s.dtype, "importance_cv2", [&](auto zero) {
      using T = decltype(zero);
      const auto visit = [&](auto&& element) {
        weights ? each_choice<T>(router, element) : each_score<T>(router, element);
      };
      const T* x = (weights ? router.weights : router.s).template as<T>();
      T* dx = (weights ? gradient.dweights : gradient.ds).template as<T>();
      visit([&](std::int64_t i, std::size_t expert) {
        importance[expert] += static_cast<double>(x[i]);
      });
      value = coefficient * static_cast<double>(tokens) *
              cv2_.finish(tokens, global ? input.all_ranks : nullptr);
      visit([&](std::int64_t i, std::size_t expert) {
        dx[i] += static_cast<T>(coefficient * input.gradient_scale * cv2_.gradient(expert));
      });
    });
    return value;
  }

 private:
  // element(index into the tensor, expert) for every score, and for every choice.
  template <class T, class Element>
  static void each_score(const RouterSaved& router, const Element& element) {
    const std::int64_t experts = router.s.cols();
    for (std::int64_t i = 0; i < router.s.size(); ++i) {
      element(i, static_cast<std::size_t>(i % experts));
    }
  }
  template <class T, class Element>
  static void each_choice(const RouterSaved& router, const Element& element) {
    const auto* index = router.indices.as<std::int32_t>();
    for (std::int64_t i = 0; i < router.indices.size(); ++i) {
      if (index[i] != ops::kNoChoice) element(i, static_cast<std::size_t>(index[i]));
    }
  }

  ImportanceCv2 config_;
  Cv2OfSums cv2_;
};

}  // namespace

std::unique_ptr<Balancer> make_importance_cv2(const configs::BalancerConfig& config) {
  return std::make_unique<ImportanceCv2Balancer>(config.importance_cv2());
}

}  // namespace witan
