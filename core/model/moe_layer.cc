#include "core/model/moe_layer.h"

#include <algorithm>
#include <string>

#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"

namespace witan {
namespace {

RouterParams router_params(const ParamStore& params, int layer) {
  const std::string prefix = "layers." + std::to_string(layer) + ".moe.router.";
  RouterParams result;
  result.weight = params.value(prefix + "weight");
  result.bias = params.value(prefix + "bias");
  result.expert_bias = params.value(prefix + "expert_bias");
  if (params.has_gradients()) {
    result.dweight = params.grad(prefix + "weight");
    result.dbias = params.grad(prefix + "bias");
  }
  return result;
}

}  // namespace

MoeLayer::MoeLayer(const configs::ModelConfig& model, const ParamStore& params, int layer,
                   std::int64_t tags)
    : layer_(layer),
      experts_(model.moe().experts()),
      router_(make_router(model.moe().router())),
      router_params_(router_params(params, layer)),
      bank_(model.moe(), params, layer),
      global_fractions_(static_cast<std::size_t>(experts_), 1.0 / static_cast<double>(experts_)),
      batch_counts_(static_cast<std::size_t>(experts_), 0),
      stats_(experts_, tags, static_cast<std::size_t>(model.moe().balance_size())) {
  if (model.moe().shared_d_ff() > 0) {
    shared_.emplace(params, "layers." + std::to_string(layer) + ".moe.shared");
  }
  for (const configs::BalancerConfig& config : model.moe().balance()) {
    balancers_.push_back(make_balancer(config));
  }
}

void MoeLayer::route(const ModelContext& model, const Batch& batch, const TensorView& x,
                     Saved& saved) {
  ModelArenas& arenas = *model.arenas;
  router_->forward(model.ctx, router_params_, x, arenas.saved, arenas.choice, saved.has_choice,
                   model.hook, layer_, batch, saved.router);
  if (!saved.has_choice) {
    model.exchange->plan(model.ctx, saved.router.indices, experts_, arenas.choice, saved.plan);
    count(batch, saved.router);
    saved.has_choice = true;
  }
  saved.row_weights = arenas.saved.allocate({saved.plan.received}, x.dtype, "row weights");
  model.exchange->dispatch_weights(model.ctx, saved.plan, saved.router.weights, saved.row_weights);
}

void MoeLayer::count(const Batch& batch, const RouterSaved& saved) {
  const std::int64_t tokens = saved.indices.rows();
  const std::int64_t top_k = saved.indices.cols();
  const std::int32_t* index = saved.indices.as<std::int32_t>();
  const std::int32_t* tag = batch.tags.empty() ? nullptr : batch.tags.as<std::int32_t>();
  std::fill(batch_counts_.begin(), batch_counts_.end(), 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t row = tag == nullptr ? 0 : std::min<std::int64_t>(tag[t], stats_.tags - 1);
    for (std::int64_t j = 0; j < top_k; ++j) {
      const std::int32_t expert = index[t * top_k + j];
      ++batch_counts_[static_cast<std::size_t>(expert)];
      ++stats_.counts[static_cast<std::size_t>(row * experts_ + expert)];
    }
  }
  stats_.tokens += tokens;
  const Context ctx{};
  stats_.logit_square += ops::sum_of_squares(ctx, saved.z);
  stats_.lse += ops::sum(ctx, saved.lse);
  dispatch_float(saved.weights.dtype, "router weights", [&](auto zero) {
    const auto* weight = saved.weights.as<decltype(zero)>();
    for (std::int64_t t = 0; t < tokens; ++t) {
      stats_.top_weight +=
          static_cast<double>(*std::max_element(weight + t * top_k, weight + (t + 1) * top_k));
    }
  });
}

void MoeLayer::begin_dispatch(const ModelContext& model, const TensorView& x, Arena& arena,
                              Saved& saved) const {
  const std::int64_t received = saved.plan.received;
  saved.rows = arena.allocate({received, x.cols()}, x.dtype, "dispatched rows");
  model.exchange->dispatch_begin(model.ctx, saved.plan, x, saved.rows);
}

void MoeLayer::activate(const ModelContext& model, Arena& arena, Saved& saved) const {
  saved.experts.h = arena.allocate({saved.plan.received, bank_.ff()}, saved.rows.dtype, "experts");
  bank_.forward_activation(model.ctx, saved.experts.up, saved.row_weights, saved.experts.h);
}

void MoeLayer::forward(const ModelContext& model, const Batch& batch, const TensorView& x,
                       const TensorView& y, Saved& saved) {
  const Context& ctx = model.ctx;
  Arena& scratch = model.arenas->scratch;
  const bool keep_rows = model.recompute != Recompute::kMoeLayer;
  const bool keep_h = keep_rows && model.recompute != Recompute::kMoeActivation;
  route(model, batch, x, saved);

  ArenaScope scope(scratch);
  Arena& rows_arena = keep_rows ? model.arenas->saved : scratch;
  begin_dispatch(model, x, rows_arena, saved);
  TensorView shared_y;
  if (shared_) {  // while the rows travel
    shared_y = scratch.allocate(y.shape, y.dtype, "shared expert");
    shared_->forward(ctx, x, shared_y, model.arenas->saved, saved.shared);
  }
  model.exchange->dispatch_end(ctx);

  saved.experts.up =
      rows_arena.allocate({saved.plan.received, bank_.up_width()}, x.dtype, "experts");
  bank_.forward_up(ctx, saved.rows, saved.plan.expert_offsets, saved.experts.up);
  activate(model, keep_h ? model.arenas->saved : scratch, saved);
  const TensorView out = scratch.allocate(saved.rows.shape, x.dtype, "experts");
  bank_.forward_down(ctx, saved.experts.h, saved.plan.expert_offsets, out);
  model.exchange->combine(ctx, saved.plan, out, y);
  if (shared_) ops::add(ctx, y, shared_y, y);
}

BalanceGradient MoeLayer::balance(const ModelContext& model, const Batch& batch, const Saved& saved,
                                  double gradient_scale) {
  BalanceGradient gradient;
  for (const auto& balancer : balancers_) {
    if (!balancer->needs_score_gradient() || !gradient.ds.empty()) continue;
    gradient.ds = model.arenas->scratch.allocate(saved.router.s.shape, saved.router.s.dtype,
                                                 "balancing gradient");
    ops::fill(model.ctx, gradient.ds, 0.0);
  }
  const BalanceInput input{saved.router, router_->score(), batch.sequences,   batch.seq_len,
                           experts_,     batch_counts_,    global_fractions_, gradient_scale};
  for (std::size_t i = 0; i < balancers_.size(); ++i) {
    stats_.losses[i] += balancers_[i]->backward(model.ctx, input, gradient, model.arenas->scratch);
  }
  return gradient;
}

void MoeLayer::backward(const ModelContext& model, const Batch& batch, const TensorView& dy,
                        const TensorView& x, Saved& saved, const TensorView& dx,
                        double gradient_scale) {
  const Context& ctx = model.ctx;
  Arena& scratch = model.arenas->scratch;
  ArenaScope scope(scratch);
  const std::int64_t received = saved.plan.received;

  if (model.recompute == Recompute::kMoeLayer) {
    begin_dispatch(model, x, scratch, saved);
    model.exchange->dispatch_end(ctx);
    saved.experts.up = scratch.allocate({received, bank_.up_width()}, x.dtype, "experts");
    bank_.forward_up(ctx, saved.rows, saved.plan.expert_offsets, saved.experts.up);
  }
  const TensorView dout = scratch.allocate({received, x.cols()}, x.dtype, "experts backward");
  model.exchange->dispatch_begin(ctx, saved.plan, dy, dout);
  TensorView shared_dx;
  if (shared_) {  // while the rows travel
    shared_dx = scratch.allocate(dx.shape, dx.dtype, "shared expert backward");
    shared_->backward(ctx, dy, x, saved.shared, shared_dx, scratch);
  }
  if (model.recompute == Recompute::kMoeLayer || model.recompute == Recompute::kMoeActivation) {
    activate(model, scratch, saved);
  }
  model.exchange->dispatch_end(ctx);

  const TensorView drow_weights = scratch.allocate({received}, x.dtype, "experts backward");
  const TensorView& drows = dout;  // in place
  bank_.backward(ctx, dout, saved.rows, saved.plan.expert_offsets, saved.row_weights, saved.experts,
                 drows, drow_weights, scratch);
  model.exchange->combine_begin(ctx, saved.plan, drows, dx);

  const BalanceGradient gradient = balance(model, batch, saved, gradient_scale);
  const TensorView dweights =
      scratch.allocate(saved.router.weights.shape, x.dtype, "router backward");
  model.exchange->combine_end(ctx);
  model.exchange->return_weights(ctx, saved.plan, drow_weights, dweights);
  router_->backward(ctx, router_params_, x, saved.router, dweights, gradient.ds,
                    gradient.z_loss_scale, dx, scratch);
  if (shared_) ops::add(ctx, dx, shared_dx, dx);
}

}  // namespace witan
