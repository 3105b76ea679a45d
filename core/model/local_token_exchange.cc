#include "core/model/local_token_exchange.h"

#include "core/model/exchange_plan.h"
#include "core/ops/permute.h"

namespace witan {

void LocalTokenExchange::plan(const Context&, const TensorView& indices, std::int64_t experts,
                              Arena& arena, ExchangePlan& plan) {
  begin_plan(indices, arena, plan);
  counts_.resize(static_cast<std::size_t>(experts));
  plan_send({indices.as<std::int32_t>(), static_cast<std::size_t>(indices.size())}, experts, 1,
            counts_, plan);
  plan_receive(counts_, 1, arena, plan);
}

// With one source, rows arrive in expert order: arrival_of_row is the identity and is not applied.
void LocalTokenExchange::dispatch_begin(const Context& ctx, const ExchangePlan& plan,
                                        const TensorView& x, const TensorView& rows) {
  ops::permute(ctx, x, plan.token_of_slot, rows);
}

void LocalTokenExchange::combine_begin(const Context& ctx, const ExchangePlan& plan,
                                       const TensorView& rows, const TensorView& y) {
  ops::unpermute_sum(ctx, rows, plan.slot_of_choice, y);
}

void LocalTokenExchange::dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                          const TensorView& weights,
                                          const TensorView& row_weights) {
  ops::permute(ctx, weights.reshape({weights.size(), 1}), plan.choice_of_slot,
               row_weights.reshape({row_weights.size(), 1}));
}

void LocalTokenExchange::return_weights(const Context& ctx, const ExchangePlan& plan,
                                        const TensorView& drow_weights,
                                        const TensorView& dweights) {
  ops::permute_backward(ctx, drow_weights.reshape({drow_weights.size(), 1}), plan.choice_of_slot,
                        dweights.reshape({dweights.size(), 1}));
}

}  // namespace witan
