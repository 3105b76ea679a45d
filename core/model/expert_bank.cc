#include "core/model/expert_bank.h"

#include <array>
#include <functional>
#include <string>

#include "core/base/current_layer.h"
#include "core/base/profile.h"
#include "core/ops/elementwise.h"
#include "core/ops/grouped_bias.h"
#include "core/ops/grouped_gemm.h"
#include "core/ops/rounded_weights.h"

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

void ExpertBank::add_to_key(GraphKey& key) const {
  // Kept copies in bfloat16, or none while they are stale.
  for (const TensorView& w : {up_, down_}) key.add(ops::find_rounded(w));
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

struct ExpertBank::Part {
  const ExpertBank& bank;
  std::int64_t first, count;              // rows
  std::span<const std::int64_t> offsets;  // of these rows
  TensorView of(const TensorView& x) const { return x.slice_rows(first, count); }
};

ExpertBank ExpertBank::expert(std::int64_t index) const {
  ExpertBank one = *this;
  for (TensorView* x : {&one.up_, &one.down_, &one.dup_, &one.ddown_, &one.up_bias_,
                        &one.down_bias_, &one.dup_bias_, &one.ddown_bias_}) {
    if (!x->empty()) *x = x->slice_rows(index, 1);
  }
  return one;
}

template <class F>
void ExpertBank::in_parts(const Context& ctx, std::span<const std::int64_t> offsets, bool empty_too,
                          const F& f) const {
  if (ctx.device.is_cuda() || !ops::keeps_groups_whole(offsets)) {
    return f(Part{*this, 0, offsets.back(), offsets});
  }
  const int layer = current_layer();
  const auto one = [&](std::int64_t group) {
    const LayerScope layer_scope(layer);  // of this thread
    const auto g = static_cast<std::size_t>(group);
    const std::array<std::int64_t, 2> own{0, offsets[g + 1] - offsets[g]};
    f(Part{expert(group), offsets[g], own[1], own});
  };
  ops::for_each_group(offsets, empty_too, std::cref(one));
}

void ExpertBank::forward(const Context& ctx, const TensorView& rows,
                         std::span<const std::int64_t> offsets, const TensorView& row_weights,
                         const Saved& saved, const TensorView& out) const {
  in_parts(ctx, offsets, false, [&](const Part& part) {
    const TensorView up = part.of(saved.up);
    const TensorView h = part.of(saved.h);
    const TensorView weights = part.of(row_weights);
    part.bank.forward_up(ctx, part.of(rows), part.offsets, up);
    part.bank.forward_activation(ctx, up, weights, h);
    part.bank.forward_down(ctx, h, part.offsets, weights, part.of(out));
  });
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
  const bool zeroes = gradients == ops::Accumulate::kNo;
  in_parts(ctx, offsets, zeroes, [&](const Part& part) {
    part.bank.backward_part(ctx, part.of(dout), part.of(rows), part.offsets, part.of(row_weights),
                            {part.of(up), part.of(saved.h)}, part.of(dh), part.of(dup),
                            part.of(drows), part.of(drow_weights), gradients);
  });
}

void ExpertBank::backward_part(const Context& ctx, const TensorView& dout, const TensorView& rows,
                               std::span<const std::int64_t> offsets, const TensorView& row_weights,
                               const Saved& saved, const TensorView& dh, const TensorView& dup,
                               const TensorView& drows, const TensorView& drow_weights,
                               ops::Accumulate gradients) const {
  const TensorView& up = saved.up;
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
