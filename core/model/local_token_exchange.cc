#include "core/model/local_token_exchange.h"

#include "core/ops/cuda/exchange_plan.h"
#include "core/ops/elementwise.h"
#include "core/ops/slot_weights.h"
#include "core/tensor/twin.h"

namespace witan {

void LocalTokenExchange::plan_begin(const Context& ctx, const TensorView& indices,
                                    std::int64_t experts, const Padding& padding,
                                    const PlanArenas& arenas, ExchangePlan& plan) {
  begin_plan(indices, plan);
  if (indices.device.is_cuda()) {
    return plan_on_device(ctx, indices, experts, padding.places, arenas.here, plan);
  }
  plan_local({indices.as<std::int32_t>(), static_cast<std::size_t>(indices.size())}, experts,
             padding.places, arenas.host, plan);
  place_indices(ctx, arenas.here, plan);
}

void LocalTokenExchange::plan_on_device(const Context& ctx, const TensorView& indices,
                                        std::int64_t experts, std::int64_t places, Arena& arena,
                                        ExchangePlan& plan) {
  const auto list = [&](std::int64_t size) {
    return arena.allocate({size}, DType::kInt32, "exchange plan");
  };
  const bool padded = places > 0 && plan.tokens > 0;
  const std::int64_t choices = indices.size();
  plan.rows = plan.tokens;
  plan.row_of_slot = list(padded ? experts * places : choices);
  plan.slots_of_row_begin = list(plan.rows + 1);
  plan.slots_of_row = list(choices);
  plan.choice_of_sent_slot = list(choices);
  const TensorView counts = padded ? TensorView{} : list(experts + 1);
  ops::cuda::plan_local(ctx, indices, experts, padded ? places : 0,
                        {plan.row_of_slot, plan.slots_of_row_begin, plan.slots_of_row,
                         plan.choice_of_sent_slot, counts});
  plan.expert_offsets.resize(static_cast<std::size_t>(experts + 1));
  if (padded) {  // the host knows all it needs
    std::int64_t begin = 0;
    for (std::int64_t& offset : plan.expert_offsets) {
      offset = begin;
      begin += places;
    }
    plan.slots = plan.expert_offsets.back();
    plan.source_of_slot = plan.row_of_slot;
    return use_indices_where_they_are(plan);
  }
  plan.open = true;
  Sizes& sizes = sizes_.push();
  sizes.plan = &plan;
  sizes.counts.begin(ctx, counts);
}

void LocalTokenExchange::plan_end(const Context&, ExchangePlan& plan) {
  if (!plan.open) return;
  WITAN_CHECK(!sizes_.empty() && sizes_.oldest().plan == &plan,
              "the end of an exchange plan that is not the oldest");
  plan.open = false;
  const auto* counts = sizes_.oldest().counts.wait().as<std::int32_t>();
  plan.slots = 0;
  for (std::size_t expert = 0; expert + 1 < plan.expert_offsets.size(); ++expert) {
    plan.expert_offsets[expert] = plan.slots;
    plan.slots += counts[expert];
  }
  plan.expert_offsets.back() = plan.slots;
  sizes_.pop();
  plan.row_of_slot = plan.row_of_slot.slice_rows(0, plan.slots);
  plan.slots_of_row = plan.slots_of_row.slice_rows(0, plan.slots);
  plan.choice_of_sent_slot = plan.choice_of_sent_slot.slice_rows(0, plan.slots);
  plan.source_of_slot = plan.row_of_slot;
  use_indices_where_they_are(plan);
}

void LocalTokenExchange::combine_begin(const Context& ctx, const ExchangePlan&,
                                       const TensorView& rows, const TensorView& y) {
  if (rows.data != y.data) ops::copy(ctx, rows, y);
}

// Slots and choices in the same order: pairs of them.
void LocalTokenExchange::dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                          const TensorView& weights,
                                          const TensorView& slot_weights) {
  ArenaScope scope(buffer_);
  ops::move_weights(ctx, copy_in(ctx, buffer_, weights, "routing weights"),
                    plan.here.choice_of_sent_slot, slot_weights, plan.here.slots_of_row);
}

void LocalTokenExchange::return_weights(const Context& ctx, const ExchangePlan& plan,
                                        const TensorView& dslot_weights,
                                        const TensorView& dweights) {
  ArenaScope scope(buffer_);
  const TensorView twin = twin_in(buffer_, dweights, "routing weights");
  ops::move_weights(ctx, dslot_weights, plan.here.slots_of_row, twin,
                    plan.here.choice_of_sent_slot);
  bring(ctx, twin, dweights);
}

}  // namespace witan
