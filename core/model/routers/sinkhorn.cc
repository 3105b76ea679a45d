// sinkhorn: in training, the k largest of exp(z) after its rows and columns have been normalised in
// turn over one rank's micro-batch (S-BASE, Clark et al. 2022); weights come from the plain scores.
// In evaluation top_k of the scores. A token's choice depends on the whole micro-batch.
#include "core/ops/sinkhorn.h"

#include "core/model/router.h"
#include "core/ops/expert_mask.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

class SinkhornRouter final : public Router {
 public:
  SinkhornRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), config_(config.sinkhorn()) {}

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return config_.k(); }

 protected:
  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    if (!in.batch.training) return ops::topk(ctx, in.ranked, {}, indices);
    const TensorView p = in.scratch.allocate(in.z.shape, DType::kFloat64, "router");
    ops::sinkhorn(ctx, in.z, config_.iterations(), p);
    // What has underflowed to 0 still ranks above what is not allowed.
    if (!place().mask.empty()) ops::mask_like(ctx, in.z, p);
    ops::topk(ctx, p, {}, indices);
  }

 private:
  configs::SinkhornSelection config_;
};

}  // namespace

std::unique_ptr<Router> make_sinkhorn_router(const configs::RouterConfig& config,
                                             const RouterPlace& place) {
  return std::make_unique<SinkhornRouter>(config, place);
}

}  // namespace witan
