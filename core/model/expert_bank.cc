#include "core/model/expert_bank.h"

#include <string>

#include "core/base/profile.h"
#include "core/ops/elementwise.h"
#include "core/ops/grouped_bias.h"
#include "core/ops/grouped_gemm.h"

namespace witan {
namespace {

ops::Activation activation_of(configs::MoeConfig::ExpertKind kind) {
  switch (kind) {
    case configs::MoeConfig::SILU: return ops::Activation::kSilu;
    case configs::MoeConfig::RELU: return ops::Activation::kRelu;
    case configs::MoeConfig::GELU: return ops::Activation::kGelu;
    case configs::MoeConfig::GELU_TANH: return ops::Activation::kGeluTanh;
    default: return ops::Activation::kSwiglu;
  }
}

// Where the gradient of `up` goes: in its place; in that of dh, if it is as large once it is
// rounded (gate and up side by side); or beside them.
TensorView place_of_dup(const TensorView& up, const TensorView& dh, DType type, Arena& scratch) {
  if (type == up.dtype) return up;
  const TensorView in_dh{dh.data, up.shape, type, up.device};
  if (in_dh.bytes() == dh.bytes()) return in_dh;
  return scratch.allocate(up.shape, type, "experts backward");
}

}  // namespace

ExpertBank::ExpertBank(const configs::MoeConfig& config, const ParamStore& params, int layer)
    : activation_(activation_of(config.expert_kind())),
      swiglu_{config.swiglu().up_offset(), config.swiglu().gate_slope(), config.swiglu().clamp()} {
  const std::string prefix = "layers." + std::to_string(layer) + ".moe.experts.";
  const std::string up = prefix + (activation_ == ops::Activation::kSwiglu ? "gate_up" : "up");
  up_ = params.value(up);
  down_ = params.value(prefix + "down");
  up_bias_ = params.value(up + "_bias");
  down_bias_ = params.value(prefix + "down_bias");
  if (!params.has_gradients()) return;
  dup_ = params.grad(up);
  ddown_ = params.grad(prefix + "down");
  dup_bias_ = params.grad(up + "_bias");
  ddown_bias_ = params.grad(prefix + "down_bias");
}

void ExpertBank::forward_up(const Context& ctx, const TensorView& rows,
                            std::span<const std::int64_t> offsets, const TensorView& up) const {
  const ProfileScope profile("experts up");
  ops::grouped_gemm_nt(ctx, rows, offsets, up_, up);
  if (!up_bias_.empty()) ops::grouped_add_bias(ctx, up, offsets, {}, up_bias_);
}

void ExpertBank::forward_activation(const Context& ctx, const TensorView& up,
                                    const TensorView& row_weights, const TensorView& h) const {
  const ProfileScope profile("experts activation");
  ops::activation(ctx, activation_, up, row_weights, h, swiglu_);
}

void ExpertBank::forward_down(const Context& ctx, const TensorView& h,
                              std::span<const std::int64_t> offsets, const TensorView& row_weights,
                              const TensorView& out) const {
  const ProfileScope profile("experts down");
  ops::grouped_gemm_nt(ctx, h, offsets, down_, out);
  if (!down_bias_.empty()) ops::grouped_add_bias(ctx, out, offsets, row_weights, down_bias_);
}

void ExpertBank::backward(const Context& ctx, const TensorView& dout, const TensorView& rows,
                          std::span<const std::int64_t> offsets, const TensorView& row_weights,
                          const Saved& saved, const TensorView& drows,
                          const TensorView& drow_weights, ops::Accumulate gradients,
                          Arena& scratch) const {
  ArenaScope scope(scratch);
  const TensorView& up = saved.up;
  const TensorView dh = scratch.allocate({rows.rows(), ff()}, up.dtype, "experts backward");
  const TensorView dup = place_of_dup(up, dh, stored_type(ctx, up.dtype), scratch);
  profiled("experts down backward", [&] {
    ops::grouped_gemm_backward(ctx, dout, offsets, saved.h, down_, dh, ddown_, gradients);
  });
  profiled("experts activation backward", [&] {
    ops::activation_backward(ctx, activation_, up, row_weights, dh, dup, drow_weights, swiglu_);
  });
  if (!down_bias_.empty()) {  // drow_weights accumulate
    if (gradients == ops::Accumulate::kNo) {
      ops::fill(ctx, dup_bias_, 0.0);
      ops::fill(ctx, ddown_bias_, 0.0);
    }
    ops::grouped_bias_backward(ctx, dout, offsets, row_weights, down_bias_, ddown_bias_,
                               drow_weights);
    ops::grouped_bias_backward(ctx, dup, offsets, {}, up_bias_, dup_bias_, {});
  }
  const ProfileScope profile("experts up backward");
  ops::grouped_gemm_backward(ctx, dup, offsets, rows, up_, drows, dup_, gradients);
}

}  // namespace witan
