#include "core/model/norm_layer.h"

#include "core/base/profile.h"

namespace witan {

NormLayer::NormLayer(const configs::NormConfig& config, const ParamStore& params,
                     const std::string& name)
    : layer_norm_(config.kind() == configs::NormConfig::LAYERNORM),
      eps_(config.eps()),
      weight_(params.value(name + ".weight")),
      bias_(params.value(name + ".bias")) {
  if (!params.has_gradients()) return;
  dweight_ = params.grad(name + ".weight");
  dbias_ = params.grad(name + ".bias");
}

void NormLayer::allocate(const TensorView& x, Arena& arena, Saved& saved) const {
  saved.rstd = arena.allocate({x.rows()}, x.dtype, "norm");
  if (layer_norm_) saved.mean = arena.allocate({x.rows()}, x.dtype, "norm");
}

void NormLayer::forward(const Context& ctx, const TensorView& x, const TensorView& y,
                        const Saved& saved) const {
  const ProfileScope profile("norm");
  if (layer_norm_) {
    ops::layernorm(ctx, x, weight_, bias_, eps_, y, saved.mean, saved.rstd);
  } else {
    ops::rmsnorm(ctx, x, weight_, eps_, y, saved.rstd);
  }
}

void NormLayer::forward_sum(const Context& ctx, const TensorView& a, const TensorView& b,
                            const TensorView& sum, const TensorView& y, const Saved& saved) const {
  const ProfileScope profile("norm");
  if (layer_norm_) {
    ops::add_layernorm(ctx, a, b, weight_, bias_, eps_, sum, y, saved.mean, saved.rstd);
  } else {
    ops::add_rmsnorm(ctx, a, b, weight_, eps_, sum, y, saved.rstd);
  }
}

void NormLayer::forward(const Context& ctx, const TensorView& x, const TensorView& y, Arena& arena,
                        Saved& saved) const {
  allocate(x, arena, saved);
  forward(ctx, x, y, saved);
}

void NormLayer::backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                         const Saved& saved, const TensorView& dx,
                         ops::Accumulate accumulate) const {
  const ProfileScope profile("norm backward");
  if (layer_norm_) {
    ops::layernorm_backward(ctx, dy, x, weight_, saved.mean, saved.rstd, dx, accumulate, dweight_,
                            dbias_);
  } else {
    ops::rmsnorm_backward(ctx, dy, x, weight_, saved.rstd, dx, accumulate, dweight_);
  }
}

}  // namespace witan
