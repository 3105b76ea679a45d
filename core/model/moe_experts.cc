// The MoE layer between dispatch and combine: rows to slots, experts, slots to rows. Where experts
// are padded, what is enqueued follows from the shapes of the batch, and may be one CUDA graph.
#include "core/base/profile.h"
#include "core/model/graph_part.h"
#include "core/model/moe_layer.h"
#include "core/ops/permute.h"
#include "core/tensor/graph_key.h"

namespace witan {
namespace {

constexpr const char* kExpertsGraph = "experts graph";

// Every row once for each of its slots: [slots, d] of `type`, by expert.
TensorView rows_of_slots(const ModelContext& model, const DispatchedRows& rows,
                         const ExchangePlan& plan, DType type) {
  const TensorView y =
      model.arenas->scratch.allocate(rows.own.shape.with_rows(plan.slots), type, "rows by expert");
  const ProfileScope profile("permute");
  ops::permute(model.ctx, rows.own, rows.others, plan.here.source_of_slot, y);
  return y;
}

// The way back: y [rows, d], the sum of each row's slots in x [slots, d].
void sum_of_slots(const ModelContext& model, const TensorView& x, const ExchangePlan& plan,
                  const TensorView& y) {
  const ProfileScope profile("un-permute");
  ops::unpermute_sum(model.ctx, x, plan.here.slots_of_row_begin, plan.here.slots_of_row, y);
}

}  // namespace

void MoeLayer::allocate_up(Arena& arena, Chunk& chunk) const {
  chunk.experts.up =
      arena.allocate({chunk.plan.slots, bank_.up_width()}, chunk.rows.own.dtype, "experts");
}

void MoeLayer::allocate_h(const ModelContext& model, Arena& arena, Chunk& chunk) const {
  chunk.experts.h = arena.allocate({chunk.plan.slots, bank_.ff()},
                                   bank_.stored_type(model.ctx, chunk.rows.own.dtype), "experts");
}

void MoeLayer::activate(const ModelContext& model, const Chunk& chunk) const {
  bank_.forward_activation(model.ctx, chunk.experts.up, chunk.slot_weights, chunk.experts.h);
}

void MoeLayer::forward_up(const ModelContext& model, const Chunk& chunk) const {
  const ExchangePlan& plan = chunk.plan;
  const DType type = bank_.stored_type(model.ctx, chunk.rows.own.dtype);
  ArenaScope scope(model.arenas->scratch);
  const TensorView x = rows_of_slots(model, chunk.rows, plan, type);
  bank_.forward_up(model.ctx, x, plan.expert_offsets, chunk.experts.up);
}

void MoeLayer::forward_experts(const ModelContext& model, Chunk& chunk,
                               const TensorView& out) const {
  const ProfileScope profile("experts");
  Arena& scratch = model.arenas->scratch;
  const ExchangePlan& plan = chunk.plan;
  const bool keep_up = model.recompute != Recompute::kMoeLayer;
  const bool keep_h = keep_up && model.recompute != Recompute::kMoeActivation;
  ArenaScope scope(scratch);
  // What outlives the work has to be there when a graph takes its place.
  if (keep_up) allocate_up(model.arenas->saved, chunk);
  if (keep_h) allocate_h(model, model.arenas->saved, chunk);
  enqueue_part(
      model.ctx, model.cuda_graphs && chunk.padded, kExpertsGraph, forward_graph_,
      [&] {
        GraphKey key = key_of(model, chunk);
        if (keep_up) add_to(key, chunk.experts.up);
        if (keep_h) add_to(key, chunk.experts.h);
        add_to(key, out);
        return key;
      },
      [&] {
        if (!keep_up) allocate_up(scratch, chunk);
        if (!keep_h) allocate_h(model, scratch, chunk);
        const TensorView x = rows_of_slots(model, chunk.rows, plan, chunk.experts.h.dtype);
        const TensorView y =
            x.dtype == out.dtype ? x : scratch.allocate(x.shape, out.dtype, "experts");  // in place
        bank_.forward(model.ctx, x, plan.expert_offsets, chunk.slot_weights, chunk.experts, y);
        sum_of_slots(model, y, plan, out);
      });
}

// Where experts are padded their offsets follow from the number of slots. Parameters and their
// gradients stay where they are for the life of the layer.
GraphKey MoeLayer::key_of(const ModelContext& model, const Chunk& chunk) const {
  GraphKey key;
  add_to(key, model.ctx);
  add_to(key, model.arenas->scratch);
  key.add(static_cast<std::int64_t>(model.recompute));
  const ExchangePlan::RowIndices& lists = chunk.plan.here;
  for (const TensorView& tensor :
       {chunk.rows.own, chunk.rows.others, chunk.slot_weights, lists.source_of_slot,
        lists.slots_of_row_begin, lists.slots_of_row}) {
    add_to(key, tensor);
  }
  bank_.add_to_key(key);
  return key;
}

void MoeLayer::backward_experts(const ModelContext& model, const DispatchedRows& dout, Chunk& chunk,
                                ops::Accumulate gradients, const TensorView& drows) const {
  const ProfileScope profile("experts backward");
  Arena& scratch = model.arenas->scratch;
  const ExchangePlan& plan = chunk.plan;
  const auto work = [&] {
    ArenaScope scope(scratch);
    const DType type = bank_.stored_type(model.ctx, drows.dtype);
    const TensorView x = rows_of_slots(model, chunk.rows, plan, type);
    const TensorView dy = rows_of_slots(model, dout, plan, type);
    const TensorView dx = type == drows.dtype  // in place if it fits
                              ? dy
                              : scratch.allocate(dy.shape, drows.dtype, "experts backward");
    bank_.backward(model.ctx, dy, x, plan.expert_offsets, chunk.slot_weights, chunk.experts, dx,
                   chunk.dslot_weights, gradients, scratch);
    sum_of_slots(model, dx, plan, drows);
  };
  enqueue_part(
      model.ctx, model.cuda_graphs && chunk.padded, kExpertsGraph, backward_graph_,
      [&] {
        GraphKey key = key_of(model, chunk);
        for (const TensorView& tensor : {dout.own, dout.others, chunk.experts.up, chunk.experts.h,
                                         chunk.dslot_weights, drows}) {
          add_to(key, tensor);
        }
        key.add(static_cast<std::int64_t>(gradients));
        return key;
      },
      work);
}

}  // namespace witan
