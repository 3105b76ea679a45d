#include "core/model/local_token_exchange.h"

#include "core/ops/elementwise.h"
#include "core/ops/permute.h"

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

// Both lists name the same (token, choice) pairs in the same order.
void LocalTokenExchange::dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                          const TensorView& weights,
                                          const TensorView& slot_weights) {
  ArenaScope scope(buffer_);
  const TensorView by_row =
      buffer_.allocate({plan.slots_of_row.size(), 1}, weights.dtype, "routing weights");
  ops::permute(ctx, column(weights), plan.choice_of_sent_slot, by_row);
  ops::scatter(ctx, by_row, plan.slots_of_row, column(slot_weights));
}

void LocalTokenExchange::return_weights(const Context& ctx, const ExchangePlan& plan,
                                        const TensorView& dslot_weights,
                                        const TensorView& dweights) {
  ArenaScope scope(buffer_);
  const TensorView by_row =
      buffer_.allocate({plan.slots_of_row.size(), 1}, dweights.dtype, "routing weights");
  ops::permute(ctx, column(dslot_weights), plan.slots_of_row, by_row);
  ops::scatter(ctx, by_row, plan.choice_of_sent_slot, column(dweights));
}

}  // namespace witan
