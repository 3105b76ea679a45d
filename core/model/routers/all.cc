// all: every expert that the token may use: the dense mixture, and with uniform weights the
// ensemble.
#include "core/model/router.h"
#include "core/ops/expert_mask.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

class AllRouter final : public Router {
 public:
  AllRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), experts_(place.experts) {}

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return experts_; }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    const ExpertMask& mask = place().mask;
    if (mask.empty()) return ops::table_choices(ctx, {}, {}, experts_, indices);
    ops::tag_choices(ctx, mask.table(ctx), in.batch.tags_at(ctx.device), {}, {}, indices);
  }

 private:
  std::int64_t experts_;
};

}  // namespace

std::unique_ptr<Router> make_all_router(const configs::RouterConfig& config,
                                        const RouterPlace& place) {
  return std::make_unique<AllRouter>(config, place);
}

}  // namespace witan
