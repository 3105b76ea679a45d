#include "core/model/local_token_exchange.h"

#include "core/ops/elementwise.h"
#include "core/ops/permute.h"

namespace witan {
namespace {

TensorView column(const TensorView& x) { return x.reshape({x.size(), 1}); }

}  // namespace

void LocalTokenExchange::plan(const Context&, const TensorView& indices, std::int64_t experts,
                              Arena& arena, ExchangePlan& plan) {
  begin_plan(indices, plan);
  const auto* index = indices.as<std::int32_t>();
  codes_.clear();
  for (std::int64_t choice = 0; choice < indices.size(); ++choice) {
    codes_.push_back(SlotCode::of(index[choice], choice % plan.top_k == 0));
  }
  plan.rows_from.assign(1, plan.tokens);
  plan.slots_from.assign(1, indices.size());
  plan_receive(codes_, experts, arena, plan);
}

void LocalTokenExchange::combine_begin(const Context& ctx, const ExchangePlan&,
                                       const TensorView& rows, const TensorView& y) {
  if (rows.data != y.data) ops::copy(ctx, rows, y);
}

// slots_of_row lists the choices of all tokens in order.
void LocalTokenExchange::dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                          const TensorView& weights,
                                          const TensorView& slot_weights) {
  ops::permute_backward(ctx, column(weights), plan.slots_of_row, column(slot_weights));
}

void LocalTokenExchange::return_weights(const Context& ctx, const ExchangePlan& plan,
                                        const TensorView& dslot_weights,
                                        const TensorView& dweights) {
  ops::permute(ctx, column(dslot_weights), plan.slots_of_row, column(dweights));
}

}  // namespace witan
