// top_p: experts in descending order of score + expert bias until their share of the scores reaches
// p; at least one, at most k_max (Huang et al. 2024). A token's work follows its difficulty.
#include "core/model/router.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

class TopPRouter final : public Router {
 public:
  TopPRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), config_(config.top_p()) {}

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return config_.k_max(); }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    ops::topk(ctx, in.ranked, in.expert_bias, indices);
    ops::keep_mass(ctx, config_.p(), in.s, indices);
  }

 private:
  configs::TopPSelection config_;
};

}  // namespace

std::unique_ptr<Router> make_top_p_router(const configs::RouterConfig& config,
                                          const RouterPlace& place) {
  return std::make_unique<TopPRouter>(config, place);
}

}  // namespace witan
