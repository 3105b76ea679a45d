// top_k: the k experts with the largest score + expert bias; ties go to the lower index
// (DeepSeek-V3 with a bias, Mixtral without).
#include "core/model/router.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

class TopKRouter final : public Router {
 public:
  TopKRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), top_k_(config.top_k().k()) {}

  bool decides_on_device() const override { return true; }
  bool is_top_k() const override { return true; }
  std::int64_t top_k() const override { return top_k_; }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    ops::topk(ctx, in.ranked, in.expert_bias, indices);
  }

 private:
  std::int64_t top_k_;
};

}  // namespace

std::unique_ptr<Router> make_top_k_router(const configs::RouterConfig& config,
                                          const RouterPlace& place) {
  return std::make_unique<TopKRouter>(config, place);
}

}  // namespace witan
