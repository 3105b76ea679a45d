#include "core/model/local_token_exchange.h"

#include "core/ops/elementwise.h"
#include "core/ops/permute.h"
#include "core/tensor/twin.h"

namespace witan {
namespace {

TensorView column(const TensorView& x) { return x.reshape({x.size(), 1}); }

}  // namespace

void LocalTokenExchange::plan(const Context&, const TensorView& indices, std::int64_t experts,
                              std::int64_t places, Arena& arena, ExchangePlan& plan) {
  begin_plan(indices, plan);
  plan_local({indices.as<std::int32_t>(), static_cast<std::size_t>(indices.size())}, experts,
             places, arena, plan);
}

void LocalTokenExchange::combine_begin(const Context& ctx, const ExchangePlan&,
                                       const TensorView& rows, const TensorView& y) {
  if (rows.data != y.data) ops::copy(ctx, rows, y);
}

void LocalTokenExchange::move_weights(const TensorView& from, const TensorView& from_index,
                                      const TensorView& to, const TensorView& to_index,
                                      Arena& buffer) {
  const TensorView by_row = buffer.allocate({from_index.size(), 1}, to.dtype, "routing weights");
  ops::permute({}, column(from), from_index, by_row);
  ops::scatter({}, by_row, to_index, column(to));
}

void LocalTokenExchange::dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                          const TensorView& weights,
                                          const TensorView& slot_weights) {
  ArenaScope scope(buffer_);
  const TensorView twin = twin_in(buffer_, slot_weights, "routing weights");
  move_weights(weights, plan.choice_of_sent_slot, twin, plan.slots_of_row, buffer_);
  bring(ctx, twin, slot_weights);
}

void LocalTokenExchange::return_weights(const Context& ctx, const ExchangePlan& plan,
                                        const TensorView& dslot_weights,
                                        const TensorView& dweights) {
  ArenaScope scope(buffer_);
  const TensorView twin = copy_in(ctx, buffer_, dslot_weights, "routing weights");
  move_weights(twin, plan.slots_of_row, dweights, plan.choice_of_sent_slot, buffer_);
}

}  // namespace witan
