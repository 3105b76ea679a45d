// group_limited: top_k among the experts of the best groups (DeepSeek-V3 sums each group's best
// two, DeepSeek-V2 takes its maximum). Experts of other groups count as minus infinity.
#include "core/model/router.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

class GroupLimitedRouter final : public Router {
 public:
  GroupLimitedRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), config_(config.group_limited()) {}

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return config_.k(); }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    ops::group_topk(ctx, {config_.n_group(), config_.group_top(), config_.topk_group()}, in.ranked,
                    in.expert_bias, indices);
  }

 private:
  configs::GroupLimitedSelection config_;
};

}  // namespace

std::unique_ptr<Router> make_group_limited_router(const configs::RouterConfig& config,
                                                  const RouterPlace& place) {
  return std::make_unique<GroupLimitedRouter>(config, place);
}

}  // namespace witan
