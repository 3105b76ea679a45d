#include "core/model/zero_computation.h"

#include <string>

#include "core/tensor/twin.h"

namespace witan {

ZeroComputation::ZeroComputation(const configs::MoeConfig& moe, const ParamStore& params, int layer)
    : experts_{moe.experts(), moe.zero_computation().zero(), moe.zero_computation().copy(),
               moe.zero_computation().constant()} {
  if (experts_.constant == 0) return;
  const std::string prefix = "layers." + std::to_string(layer) + ".moe.constant.";
  params_ = {params.value(prefix + "mix"), params.value(prefix + "vector")};
  if (!params.has_gradients()) return;
  gradients_ = {params.grad(prefix + "mix"), params.grad(prefix + "vector")};
}

void ZeroComputation::forward(const Context& ctx, const TensorView& indices,
                              const TensorView& weights, const TensorView& x, const TensorView& y,
                              Arena& scratch) const {
  ArenaScope scope(scratch);
  ops::zero_experts(ctx, experts_, params_,
                    copy_in(ctx, scratch, indices, "zero-computation experts"),
                    copy_in(ctx, scratch, weights, "zero-computation experts"), x, y);
}

void ZeroComputation::backward(const Context& ctx, const TensorView& indices,
                               const TensorView& weights, const TensorView& x, const TensorView& dy,
                               const TensorView& dx, const TensorView& dweights,
                               Arena& scratch) const {
  ArenaScope scope(scratch);
  const auto here = [&](const TensorView& tensor) {
    return copy_in(ctx, scratch, tensor, "zero-computation experts backward");
  };
  const TensorView dweights_here = here(dweights);
  ops::zero_experts_backward(ctx, experts_, params_, here(indices), here(weights), x, dy, dx,
                             dweights_here, gradients_);
  bring(ctx, dweights_here, dweights);
}

}  // namespace witan
