// hierarchical: a first gate chooses groups, a second one the experts of each chosen group (Shazeer
// et al. 2017, appendix B, without its noise). Their logits are joined into one for each expert
// (core/ops/two_gates.h), which losses and masks read as any other router's.
#include "core/model/router.h"
#include "core/ops/two_gates.h"

namespace witan {
namespace {

class HierarchicalRouter final : public Router {
 public:
  HierarchicalRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place),
        gates_{config.hierarchical().n_group(), config.hierarchical().topk_group(),
               config.hierarchical().k()} {}

  bool decides_on_device() const override { return true; }
  std::int64_t top_k() const override { return gates_.keep * gates_.k; }

 protected:
  void finish_logits(const Context& ctx, const RouterParams& params, const Batch&,
                     const RouterArenas& arenas, RouterSaved& saved) const override {
    const TensorView& z = saved.z;
    saved.group_z = arenas.decision.allocate({z.rows(), gates_.groups}, z.dtype, "router");
    product(ctx, saved.x, params.group_weight, {}, saved.group_z, arenas.scratch);
    ops::join_gates(context_at(ctx, z.device), saved.group_z, z);
  }

  void select(const Context& ctx, const SelectionInput& in,
              const TensorView& indices) const override {
    ops::gate_choices(ctx, gates_, in.z, in.group_z, indices);
  }

  bool weighs_itself() const override { return true; }

  void weigh(const Context& ctx, const RouterSaved& saved, const TensorView& indices,
             const TensorView& weights) const override {
    ops::gate_weights(ctx, gates_, scale(), saved.z, indices, weights);
  }

  void weigh_backward(const Context& ctx, const RouterSaved& saved, const TensorView& indices,
                      const TensorView& dweights, const TensorView& dz) const override {
    ops::gate_weights_backward(ctx, gates_, scale(), saved.z, indices, dweights, dz);
  }

  // dz of the joined logits -> du, of which u = x W_group^T, and dv in its place.
  void logits_backward(const Context& ctx, const RouterParams& params, const Batch&,
                       const RouterSaved& saved, const TensorView& dz, const TensorView&,
                       const TensorView& dx, Arena& scratch,
                       Arena& decision_scratch) const override {
    ArenaScope scope(decision_scratch);
    const TensorView du =
        decision_scratch.allocate(saved.group_z.shape, dz.dtype, "router backward");
    ops::join_gates_backward(context_at(ctx, dz.device), saved.z, dz, du);
    product_backward(ctx, du, saved.x, params.group_weight, params.dgroup_weight, {}, dx, scratch);
  }

 private:
  ops::TwoGates gates_;
};

}  // namespace

std::unique_ptr<Router> make_hierarchical_router(const configs::RouterConfig& config,
                                                 const RouterPlace& place) {
  return std::make_unique<HierarchicalRouter>(config, place);
}

}  // namespace witan
