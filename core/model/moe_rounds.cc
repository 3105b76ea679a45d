// The MoE layer in rounds: memory for ModelContext::max_rows rows at a time, whatever the router
// does. A round keeps nothing, its plan included; the backward makes it again.
#include "core/base/profile.h"
#include "core/model/moe_layer.h"

namespace witan {

// Its plan, weights and rows, in scratch memory.
MoeLayer::Chunk& MoeLayer::begin_round(const ModelContext& model, const TensorView& x, Saved& saved,
                                       std::size_t round) const {
  const ProfileScope profile("dispatch");
  Arena& scratch = model.arenas->scratch;
  saved.chunks.resize(1);
  Chunk& chunk = saved.chunks.front();
  chunk.begin = saved.rounds[round];
  chunk.padded = false;
  const TensorView choices =
      saved.travel.slice_rows(chunk.begin, saved.rounds[round + 1] - chunk.begin);
  model.exchange->plan_begin(model.ctx, choices, computing_experts(), {},
                             {model.arenas->host_scratch(), scratch}, chunk.plan);
  model.exchange->plan_end(model.ctx, chunk.plan);
  chunk.slot_weights = scratch.allocate({chunk.plan.slots}, x.dtype, "routing weights");
  model.exchange->dispatch_weights(model.ctx, chunk.plan, chunk.of(saved.router.weights),
                                   chunk.slot_weights);
  chunk.rows = model.exchange->dispatch(model.ctx, chunk.plan, chunk.of(x), scratch);
  return chunk;
}

void MoeLayer::forward_rounds(const ModelContext& model, const TensorView& x, const TensorView& y,
                              Saved& saved) const {
  ModelContext keeping_nothing = model;
  keeping_nothing.recompute = Recompute::kMoeLayer;
  Arena& scratch = model.arenas->scratch;
  for (std::size_t round = 0; round + 1 < saved.rounds.size(); ++round) {
    ArenaScope scope(scratch);
    ArenaScope host_scope(model.arenas->host_scratch());
    Chunk& chunk = begin_round(model, x, saved, round);
    const TensorView out = model.exchange->combine_input(chunk.plan, chunk.of(y), scratch);
    forward_experts(keeping_nothing, chunk, out);
    const ProfileScope profile("combine");
    model.exchange->combine(model.ctx, chunk.plan, out, chunk.of(y));
  }
}

void MoeLayer::backward_rounds(const ModelContext& model, const TensorView& dy, const TensorView& x,
                               Saved& saved, const TensorView& dx,
                               const TensorView& dweights) const {
  const Context& ctx = model.ctx;
  TokenExchange& exchange = *model.exchange;
  Arena& scratch = model.arenas->scratch;
  for (std::size_t round = 0; round + 1 < saved.rounds.size(); ++round) {
    ArenaScope scope(scratch);
    ArenaScope host_scope(model.arenas->host_scratch());
    Chunk& chunk = begin_round(model, x, saved, round);
    allocate_up(scratch, chunk);
    forward_up(model, chunk);
    allocate_h(model, scratch, chunk);
    activate(model, chunk);
    const DispatchedRows dout = profiled("combine backward", [&] {
      return exchange.dispatch(ctx, chunk.plan, chunk.of(dy), scratch);
    });
    chunk.dslot_weights = scratch.allocate({chunk.plan.slots}, x.dtype, "experts backward");
    const TensorView drows = exchange.combine_input(chunk.plan, chunk.of(dx), scratch);
    backward_experts(model, dout, chunk,
                     round == 0 ? model.expert_gradients : ops::Accumulate::kYes, drows);
    const ProfileScope profile("dispatch backward");
    exchange.combine(ctx, chunk.plan, drows, chunk.of(dx));
    exchange.return_weights(ctx, chunk.plan, chunk.dslot_weights, chunk.of(dweights));
  }
}

}  // namespace witan
