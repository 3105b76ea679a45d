#include "core/model/shared_expert.h"

#include "core/ops/gemm.h"
#include "core/ops/sigmoid_gate.h"

namespace witan {
namespace {

std::string prefix_of(int layer) { return "layers." + std::to_string(layer) + ".moe."; }

}  // namespace

SharedExpert::SharedExpert(const ParamStore& params, int layer)
    : ffn_(params, prefix_of(layer) + "shared"),
      gate_(params.value(prefix_of(layer) + "shared_gate")) {
  if (params.has_gradients()) dgate_ = params.grad(prefix_of(layer) + "shared_gate");
}

void SharedExpert::forward(const Context& ctx, const TensorView& x, const TensorView& y,
                           Arena& arena, Saved& saved) const {
  if (gate_.empty()) return ffn_.forward(ctx, x, y, arena, saved.ffn);
  saved.out = arena.allocate(y.shape, y.dtype, "shared expert");
  saved.gate = arena.allocate({x.rows()}, x.dtype, "shared expert");
  ffn_.forward(ctx, x, saved.out, arena, saved.ffn);
  ops::gemm_nt(ctx.in_full(), x, gate_, saved.gate.reshape({x.rows(), 1}));
  ops::sigmoid_gate(ctx, saved.out, saved.gate, y);
}

void SharedExpert::backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                            const Saved& saved, const TensorView& dx, Arena& scratch) const {
  if (gate_.empty()) return ffn_.backward(ctx, dy, x, saved.ffn, dx, scratch);
  ArenaScope scope(scratch);
  const TensorView& dout = saved.out;  // in place
  const TensorView dlogit = scratch.allocate({x.rows(), 1}, x.dtype, "shared expert backward");
  ops::sigmoid_gate_backward(ctx, dy, saved.gate, dout, dlogit.reshape({x.rows()}));
  ffn_.backward(ctx, dout, x, saved.ffn, dx, scratch);
  ops::gemm_tn(ctx.in_full(), dlogit, x, dgate_);
  ops::gemm_nn(ctx.in_full(), dlogit, gate_, dx, ops::Accumulate::kYes);
}

}  // namespace witan
