#include "core/model/moe_layer.h"

#include <algorithm>
#include <string>

#include "core/base/profile.h"
#include "core/model/rounds.h"
#include "core/ops/elementwise.h"

namespace witan {
namespace {

RouterParams router_params(const ParamStore& params, int layer) {
  const std::string prefix = "layers." + std::to_string(layer) + ".moe.router.";
  RouterParams result;
  result.weight = params.value(prefix + "weight");
  result.bias = params.value(prefix + "bias");
  result.expert_bias = params.value(prefix + "expert_bias");
  result.noise = params.value(prefix + "noise");
  result.group_weight = params.value(prefix + "group_weight");
  if (params.has_gradients()) {
    result.dweight = params.grad(prefix + "weight");
    result.dbias = params.grad(prefix + "bias");
    result.dnoise = params.grad(prefix + "noise");
    result.dgroup_weight = params.grad(prefix + "group_weight");
  }
  return result;
}

}  // namespace

MoeLayer::MoeLayer(const configs::ModelConfig& model, const ParamStore& params, int layer,
                   std::int64_t tags)
    : layer_(layer),
      experts_(ModelDims(model).entries),
      moe_layers_(ModelDims(model).all_moe_layers()),
      mask_(model.moe()),
      router_(make_router(model.moe().router(), {layer, experts_, model.vocab_size(), mask_})),
      router_params_(router_params(params, layer)),
      capacity_(model.moe(), ModelDims(model).top_k),
      bank_(model.moe(), params, layer),
      zero_computation_(model.moe(), params, layer),
      global_fractions_(static_cast<std::size_t>(experts_), 1.0 / static_cast<double>(experts_)),
      figures_(experts_, tags, static_cast<std::size_t>(model.moe().balance_size())) {
  if (model.moe().shared_d_ff() > 0) {
    shared_.emplace(params, layer);
  }
  for (const configs::BalancerConfig& config : model.moe().balance()) {
    balancers_.push_back(make_balancer(config));
  }
}

bool MoeLayer::decides_on_device(const ModelContext& model) const {
  return model.ctx.device.is_cuda() && router_->decides_on_device() && model.hook == nullptr;
}

// Only those that travel; indices [tokens, top_k] on ctx.device.
TensorView MoeLayer::travelling(const Context& ctx, Arena& arena, const TensorView& indices) const {
  if (zero_computation_.size() == 0) return indices;
  const TensorView travel = arena.allocate(indices.shape, indices.dtype, "router");
  ops::keep_choices_below(ctx, computing_experts(), indices, travel);
  return travel;
}

void MoeLayer::route(const ModelContext& model, const Batch& batch, const TensorView& x,
                     Saved& saved) {
  const ProfileScope routing("router");
  ModelArenas& arenas = *model.arenas;
  const bool on_device = decides_on_device(model);
  Arena& choice = arenas.decision_choice(on_device);
  const RouterArenas places = {arenas.saved, arenas.decision_saved(on_device), choice,
                               arenas.scratch};
  router_->forward(model.ctx, router_params_, capacity_, x, places, saved.has_choice, model.hook,
                   *model.expert_ranks, batch, saved.router);
  if (saved.has_choice) return;
  figures_.count(model.ctx, batch, saved.router);
  saved.travel = travelling(on_device ? model.ctx : Context{}, choice, saved.router.kept);
  saved.rounds.clear();
  if (model.max_rows > 0) {  // the host looks at the choice, and waits for it
    const TensorView on_host =
        on_device ? travelling({}, arenas.choice, saved.router.kept_on_host()) : saved.travel;
    cut_rounds(on_host, computing_experts(), model.max_rows, *model.expert_ranks, saved.rounds);
  }
  figures_.count_rounds(saved.in_rounds() ? static_cast<std::int64_t>(saved.rounds.size()) - 1 : 1);
  if (!saved.in_rounds()) begin_plan(model, batch, saved);
  saved.has_choice = true;
}

void MoeLayer::end_plan(const ModelContext& model, Saved& saved, bool is_new) const {
  const ProfileScope profile("dispatch");
  for (Chunk& chunk : saved.chunks) {
    if (is_new) model.exchange->plan_end(model.ctx, chunk.plan);
    chunk.slot_weights = model.arenas->saved.allocate(
        {chunk.plan.slots}, saved.router.weights.dtype, "routing weights");
    model.exchange->dispatch_weights(model.ctx, chunk.plan, chunk.of(saved.router.weights),
                                     chunk.slot_weights);
  }
}

void MoeLayer::begin_plan(const ModelContext& model, const Batch& batch, Saved& saved) const {
  const ProfileScope profile("exchange plan");
  const std::int64_t tokens = saved.router.indices.rows();
  const auto chunks = static_cast<std::int64_t>(model.exchange_chunks);
  TokenExchange::Padding padding;
  if (capacity_.pads(batch.training)) {
    padding = {capacity_.places(tokens, batch.training), batch.even};
  }
  saved.chunks.resize(static_cast<std::size_t>(chunks));
  for (std::int64_t i = 0; i < chunks; ++i) {
    Chunk& chunk = saved.chunks[static_cast<std::size_t>(i)];
    chunk.begin = tokens * i / chunks;
    chunk.padded = padding.places > 0;
    const std::int64_t count = tokens * (i + 1) / chunks - chunk.begin;
    model.exchange->plan_begin(model.ctx, saved.travel.slice_rows(chunk.begin, count),
                               computing_experts(), padding,
                               {model.arenas->choice, model.arenas->device_choice()}, chunk.plan);
  }
}

TensorView MoeLayer::forward_shared(const ModelContext& model, const TensorView& x,
                                    Saved& saved) const {
  const ProfileScope profile("shared expert");
  const TensorView y = model.arenas->scratch.allocate(x.shape, x.dtype, "shared expert");
  shared_->forward(model.ctx, x, y, model.arenas->saved, saved.shared);
  return y;
}

TensorView MoeLayer::backward_shared(const ModelContext& model, const TensorView& dy,
                                     const TensorView& x, const Saved& saved) const {
  const ProfileScope profile("shared expert backward");
  Arena& scratch = model.arenas->scratch;
  const TensorView dx = scratch.allocate(x.shape, x.dtype, "shared expert backward");
  shared_->backward(model.ctx, dy, x, saved.shared, dx, scratch);
  return dx;
}

void MoeLayer::forward(const ModelContext& model, const Batch& batch, const TensorView& x,
                       const TensorView& y, Saved& saved) {
  const Context& ctx = model.ctx;
  TokenExchange& exchange = *model.exchange;
  Arena& scratch = model.arenas->scratch;
  Arena& arena = model.recompute == Recompute::kMoeLayer ? scratch : model.arenas->saved;
  const bool is_new = !saved.has_choice;
  route(model, batch, x, saved);

  ArenaScope scope(scratch);
  if (saved.in_rounds()) {
    forward_rounds(model, x, y, saved);
    forward_zero_computation(model, x, y, saved);
    if (shared_) ops::add(ctx, y, forward_shared(model, x, saved), y);
    return;
  }
  std::vector<Chunk>& chunks = saved.chunks;
  // The shared expert works while the rows travel; while the sizes of the plan do, where rows stay.
  const bool rows_travel = exchange.ranks() > 1;
  TensorView shared_y;
  if (shared_ && !rows_travel) shared_y = forward_shared(model, x, saved);
  end_plan(model, saved, is_new);
  profiled("dispatch",
           [&] { exchange.dispatch_begin(ctx, chunks[0].plan, chunks[0].of(x), arena); });
  if (shared_ && rows_travel) shared_y = forward_shared(model, x, saved);
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    Chunk& chunk = chunks[i];
    chunk.rows = profiled("dispatch", [&] { return exchange.dispatch_end(ctx); });
    if (i + 1 < chunks.size()) {
      const ProfileScope profile("dispatch");
      exchange.dispatch_begin(ctx, chunks[i + 1].plan, chunks[i + 1].of(x), arena);
    }
    const TensorView out = exchange.combine_input(chunk.plan, chunk.of(y), scratch);
    forward_experts(model, chunk, out);
    const ProfileScope profile("combine");
    if (i > 0) exchange.combine_end(ctx);
    exchange.combine_begin(ctx, chunk.plan, out, chunk.of(y));
  }
  profiled("combine", [&] { exchange.combine_end(ctx); });
  forward_zero_computation(model, x, y, saved);
  if (shared_) ops::add(ctx, y, shared_y, y);
}

void MoeLayer::forward_zero_computation(const ModelContext& model, const TensorView& x,
                                        const TensorView& y, const Saved& saved) {
  if (zero_computation_.size() == 0) return;
  const ProfileScope profile("zero-computation experts");
  zero_computation_.forward(model.ctx, saved.router.kept, saved.router.weights, x, y,
                            model.arenas->scratch);
}

void MoeLayer::backward_zero_computation(const ModelContext& model, const TensorView& dy,
                                         const TensorView& x, const Saved& saved,
                                         const TensorView& dx, const TensorView& dweights) {
  if (zero_computation_.size() == 0) return;
  const ProfileScope profile("zero-computation experts backward");
  zero_computation_.backward(model.ctx, saved.router.kept, saved.router.weights, x, dy, dx,
                             dweights, model.arenas->scratch);
}

bool MoeLayer::pools_layers() const {
  return std::any_of(balancers_.begin(), balancers_.end(),
                     [](const auto& balancer) { return balancer->pools_layers(); });
}

RouterGradient MoeLayer::balance(const ModelContext& model, const Batch& batch, const Saved& saved,
                                 double gradient_scale) {
  const ProfileScope profile("balancing backward");
  RouterGradient gradient;
  if (balancers_.empty()) return gradient;
  const bool on_device = saved.router.on_device();
  const std::span<const std::int64_t> counts = figures_.batch_counts();
  const std::span<const std::int64_t> pooled =
      model.pooled_counts.empty() ? counts : model.pooled_counts;
  BalanceInput input{
      saved.router,      router_->score(), batch.sequences, batch.seq_len,           experts_,
      moe_layers_,       batch.progress,   counts,          global_fractions_,       gradient_scale,
      batch.micro_batch, pooled,           model.all_ranks, zero_computation_.size()};
  const Context ctx = on_device ? model.ctx.in_full() : Context{};
  for (std::size_t i = 0; i < balancers_.size(); ++i) {
    if (on_device) input.device_loss = figures_.device_loss(i);
    figures_.add_loss(i, balancers_[i]->backward(ctx, input, gradient,
                                                 model.arenas->decision_scratch(on_device)));
  }
  return gradient;
}

void MoeLayer::backward_router(const ModelContext& model, const Batch& batch, const Saved& saved,
                               const TensorView& dweights, const RouterGradient& losses,
                               const TensorView& dx) const {
  const ProfileScope profile("router backward");
  router_->backward(model.ctx, router_params_, capacity_, batch, saved.router, dweights, losses, dx,
                    model.arenas->scratch,
                    model.arenas->decision_scratch(saved.router.on_device()));
}

void MoeLayer::backward(const ModelContext& model, const Batch& batch, const TensorView& dy,
                        const TensorView& x, Saved& saved, const TensorView& dx,
                        double gradient_scale) {
  const Context& ctx = model.ctx;
  TokenExchange& exchange = *model.exchange;
  Arena& scratch = model.arenas->scratch;
  ArenaScope scope(scratch);
  ArenaScope host_scope(model.arenas->host_scratch());
  const TensorView dweights = model.arenas->decision_scratch(saved.router.on_device())
                                  .allocate(saved.router.weights.shape, x.dtype, "router backward");
  if (saved.in_rounds()) {
    backward_rounds(model, dy, x, saved, dx, dweights);
    backward_zero_computation(model, dy, x, saved, dx, dweights);
    const RouterGradient gradient = balance(model, batch, saved, gradient_scale);
    backward_router(model, batch, saved, dweights, gradient, dx);
    if (shared_) ops::add(ctx, dx, backward_shared(model, dy, x, saved), dx);
    return;
  }
  std::vector<Chunk>& chunks = saved.chunks;
  if (model.recompute == Recompute::kMoeLayer) {
    for (Chunk& chunk : chunks) {
      chunk.rows = profiled(
          "dispatch", [&] { return exchange.dispatch(ctx, chunk.plan, chunk.of(x), scratch); });
      allocate_up(scratch, chunk);
      forward_up(model, chunk);
    }
  }
  profiled("combine backward",
           [&] { exchange.dispatch_begin(ctx, chunks[0].plan, chunks[0].of(dy), scratch); });
  TensorView shared_dx;
  if (shared_) shared_dx = backward_shared(model, dy, x, saved);  // while the rows travel
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    Chunk& chunk = chunks[i];
    if (model.recompute == Recompute::kMoeLayer || model.recompute == Recompute::kMoeActivation) {
      allocate_h(model, scratch, chunk);
      activate(model, chunk);
    }
    const DispatchedRows dout =
        profiled("combine backward", [&] { return exchange.dispatch_end(ctx); });
    chunk.rows.own = chunk.of(x);  // x may lie elsewhere than in the forward
    if (i + 1 < chunks.size()) {
      const ProfileScope profile("combine backward");
      exchange.dispatch_begin(ctx, chunks[i + 1].plan, chunks[i + 1].of(dy), scratch);
    }
    chunk.dslot_weights = scratch.allocate({chunk.plan.slots}, x.dtype, "experts backward");
    const TensorView drows = exchange.combine_input(chunk.plan, chunk.of(dx), scratch);
    backward_experts(model, dout, chunk, i == 0 ? model.expert_gradients : ops::Accumulate::kYes,
                     drows);
    const ProfileScope profile("dispatch backward");
    if (i > 0) exchange.combine_end(ctx);
    exchange.combine_begin(ctx, chunk.plan, drows, chunk.of(dx));
  }
  const RouterGradient gradient = balance(model, batch, saved, gradient_scale);
  profiled("dispatch backward", [&] { exchange.combine_end(ctx); });
  for (const Chunk& chunk : chunks) {
    const ProfileScope profile("dispatch backward");
    exchange.return_weights(ctx, chunk.plan, chunk.dslot_weights, chunk.of(dweights));
  }
  backward_zero_computation(model, dy, x, saved, dx, dweights);
  backward_router(model, batch, saved, dweights, gradient, dx);
  if (shared_) ops::add(ctx, dx, shared_dx, dx);
}

}  // namespace witan
