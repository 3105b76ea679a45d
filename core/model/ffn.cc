#include "core/model/ffn.h"

#include "core/ops/activation.h"
#include "core/ops/gemm.h"

namespace witan {

Ffn::Ffn(const ParamStore& params, const std::string& name)
    : gate_up_(params.value(name + ".gate_up")), down_(params.value(name + ".down")) {
  if (!params.has_gradients()) return;
  dgate_up_ = params.grad(name + ".gate_up");
  ddown_ = params.grad(name + ".down");
}

void Ffn::forward(const Context& ctx, const TensorView& x, const TensorView& y, Arena& arena,
                  Saved& saved) const {
  saved.gate_up = arena.allocate({x.rows(), gate_up_.rows()}, x.dtype, "ffn");
  saved.h =
      arena.allocate({x.rows(), gate_up_.rows() / 2}, ops::operand_dtype(ctx, x.dtype), "ffn");
  ops::gemm_nt(ctx, x, gate_up_, saved.gate_up);
  ops::activation(ctx, ops::Activation::kSwiglu, saved.gate_up, {}, saved.h);
  ops::gemm_nt(ctx, saved.h, down_, y);
}

void Ffn::backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                   const Saved& saved, const TensorView& dx, Arena& scratch) const {
  ArenaScope scope(scratch);
  const TensorView dh = scratch.allocate(saved.h.shape, x.dtype, "ffn backward");
  const TensorView& dgate_up = saved.gate_up;  // in place
  ops::gemm_backward(ctx, dy, saved.h, down_, dh, ddown_);
  ops::activation_backward(ctx, ops::Activation::kSwiglu, saved.gate_up, {}, dh, dgate_up, {});
  ops::gemm_backward(ctx, dgate_up, x, gate_up_, dx, dgate_up_);
}

}  // namespace witan
