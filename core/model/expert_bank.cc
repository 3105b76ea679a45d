#include "core/model/expert_bank.h"

#include <string>

#include "core/base/profile.h"
#include "core/ops/grouped_gemm.h"

namespace witan {
namespace {

ops::Activation activation_of(configs::MoeConfig::ExpertKind kind) {
  switch (kind) {
    case configs::MoeConfig::SILU: return ops::Activation::kSilu;
    case configs::MoeConfig::RELU: return ops::Activation::kRelu;
    default: return ops::Activation::kSwiglu;
  }
}

}  // namespace

ExpertBank::ExpertBank(const configs::MoeConfig& config, const ParamStore& params, int layer)
    : activation_(activation_of(config.expert_kind())) {
  const std::string prefix = "layers." + std::to_string(layer) + ".moe.experts.";
  const std::string up = prefix + (activation_ == ops::Activation::kSwiglu ? "gate_up" : "up");
  up_ = params.value(up);
  down_ = params.value(prefix + "down");
  if (!params.has_gradients()) return;
  dup_ = params.grad(up);
  ddown_ = params.grad(prefix + "down");
}

void ExpertBank::forward_up(const Context& ctx, const TensorView& rows,
                            std::span<const std::int64_t> offsets, const TensorView& up) const {
  const ProfileScope profile("experts up");
  ops::grouped_gemm_nt(ctx, rows, offsets, up_, up);
}

void ExpertBank::forward_activation(const Context& ctx, const TensorView& up,
                                    const TensorView& row_weights, const TensorView& h) const {
  const ProfileScope profile("experts activation");
  ops::activation(ctx, activation_, up, row_weights, h);
}

void ExpertBank::forward_down(const Context& ctx, const TensorView& h,
                              std::span<const std::int64_t> offsets, const TensorView& out) const {
  const ProfileScope profile("experts down");
  ops::grouped_gemm_nt(ctx, h, offsets, down_, out);
}

void ExpertBank::backward(const Context& ctx, const TensorView& dout, const TensorView& rows,
                          std::span<const std::int64_t> offsets, const TensorView& row_weights,
                          const Saved& saved, const TensorView& drows,
                          const TensorView& drow_weights, Arena& scratch) const {
  ArenaScope scope(scratch);
  const TensorView dh = scratch.allocate({rows.rows(), ff()}, rows.dtype, "experts backward");
  const TensorView& dup = saved.up;  // in place
  profiled("experts down backward", [&] {
    ops::grouped_gemm_tn(ctx, dout, offsets, saved.h, ddown_);
    ops::grouped_gemm_nn(ctx, dout, offsets, down_, dh);
  });
  profiled("experts activation backward", [&] {
    ops::activation_backward(ctx, activation_, saved.up, row_weights, dh, dup, drow_weights);
  });
  const ProfileScope profile("experts up backward");
  ops::grouped_gemm_tn(ctx, dup, offsets, rows, dup_);
  ops::grouped_gemm_nn(ctx, dup, offsets, up_, drows);
}

}  // namespace witan
