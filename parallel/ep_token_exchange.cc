#include "parallel/ep_token_exchange.h"

#include <vector>

#include "core/model/exchange_plan.h"
#include "core/model/local_token_exchange.h"
#include "core/ops/permute.h"

namespace witan {
namespace {

// One direction: its buffers, and what is on the way. The buffers grow to the largest transfer.
struct Transfer {
  explicit Transfer(const char* name) : buffers(Device{}, name) {}

  void begin(const ExchangePlan& of) {
    WITAN_CHECK(plan == nullptr, "a transfer of this direction is already on its way");
    plan = &of;
  }
  void wait() {
    request.wait();
    WITAN_CHECK(plan != nullptr, "the end of a transfer that has not begun");
  }
  void end() {
    plan = nullptr;
    buffers.reset();
  }

  Arena buffers;
  Request request;
  const ExchangePlan* plan = nullptr;
  TensorView arrived;
  TensorView result;
};

TensorView column(const TensorView& x) { return x.reshape({x.size(), 1}); }

class EpTokenExchange final : public TokenExchange {
 public:
  EpTokenExchange(Communicator& group, const ExchangeOptions& options)
      : group_(group), options_(options) {}

  int ranks() const override { return group_.size(); }
  int rank() const override { return group_.rank(); }
  std::size_t buffer_bytes() const override {
    return dispatch_.buffers.bytes_reserved() + combine_.buffers.bytes_reserved() +
           weights_.buffers.bytes_reserved();
  }

  void plan(const Context& ctx, const TensorView& indices, std::int64_t experts, Arena& arena,
            ExchangePlan& plan) override;

  void dispatch_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                      Arena& arena) override;
  TensorView dispatch_end(const Context& ctx) override;

  TensorView combine_input(const ExchangePlan& plan, const TensorView& y, Arena& arena) override {
    return arena.allocate(y.shape.with_rows(plan.rows), y.dtype, "rows to combine");
  }
  void combine_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
                     const TensorView& y) override;
  void combine_end(const Context& ctx) override;

  void dispatch_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& weights,
                        const TensorView& slot_weights) override;
  void return_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& dslot_weights,
                      const TensorView& dweights) override;

 private:
  Communicator& group_;
  ExchangeOptions options_;
  SlotCodes codes_;                       // of this rank's choices
  std::vector<SlotCode> received_;        // of the slots of this rank's experts
  std::vector<std::int64_t> sizes_to_;    // [ranks, 2] rows and slots for each rank
  std::vector<std::int64_t> sizes_from_;  // [ranks, 2]
  Transfer dispatch_{"dispatch buffers"};
  Transfer combine_{"combine buffers"};
  Transfer weights_{"routing weight buffers"};
};

void EpTokenExchange::plan(const Context&, const TensorView& indices, std::int64_t experts,
                           Arena& arena, ExchangePlan& plan) {
  begin_plan(indices, plan);
  plan_send({indices.as<std::int32_t>(), static_cast<std::size_t>(indices.size())}, experts,
            ranks(), options_.rows_per, arena, codes_, plan);
  const auto size = static_cast<std::size_t>(ranks());
  sizes_to_.clear();
  for (std::size_t peer = 0; peer < size; ++peer) {
    sizes_to_.push_back(plan.rows_to[peer]);
    sizes_to_.push_back(plan.slots_to[peer]);
  }
  sizes_from_.resize(2 * size);
  group_
      .all_to_all(view_of(sizes_to_.data(), {ranks(), 2}),
                  view_of(sizes_from_.data(), {ranks(), 2}))
      .wait();
  plan.rows_from.clear();
  plan.slots_from.clear();
  std::int64_t slots = 0;
  for (std::size_t peer = 0; peer < size; ++peer) {
    plan.rows_from.push_back(sizes_from_[2 * peer]);
    plan.slots_from.push_back(sizes_from_[2 * peer + 1]);
    slots += plan.slots_from.back();
  }
  received_.resize(static_cast<std::size_t>(slots));
  static_assert(sizeof(SlotCode) == sizeof(std::int32_t));
  group_
      .all_to_all_v({codes_.codes.data(), {indices.size()}, DType::kInt32, {}}, plan.slots_to,
                    {received_.data(), {slots}, DType::kInt32, {}}, plan.slots_from)
      .wait();
  plan_receive(received_, local_experts(experts), arena, plan);
}

void EpTokenExchange::dispatch_begin(const Context& ctx, const ExchangePlan& plan,
                                     const TensorView& x, Arena& arena) {
  dispatch_.begin(plan);
  const TensorView send = dispatch_.buffers.allocate(
      x.shape.with_rows(plan.token_of_sent_row.size()), x.dtype, "rows to send");
  dispatch_.result = arena.allocate(x.shape.with_rows(plan.rows), x.dtype, "dispatched rows");
  ops::permute(ctx, x, plan.token_of_sent_row, send);
  dispatch_.request = group_.all_to_all_v(send, plan.rows_to, dispatch_.result, plan.rows_from);
}

TensorView EpTokenExchange::dispatch_end(const Context&) {
  dispatch_.wait();
  dispatch_.end();
  return dispatch_.result;
}

void EpTokenExchange::combine_begin(const Context&, const ExchangePlan& plan,
                                    const TensorView& rows, const TensorView& y) {
  combine_.begin(plan);
  combine_.arrived = combine_.buffers.allocate(y.shape.with_rows(plan.token_of_sent_row.size()),
                                               y.dtype, "rows received");
  combine_.result = y;
  combine_.request = group_.all_to_all_v(rows, plan.rows_from, combine_.arrived, plan.rows_to);
}

void EpTokenExchange::combine_end(const Context& ctx) {
  combine_.wait();
  ops::unpermute_sum(ctx, combine_.arrived, combine_.plan->sent_rows_of_token_begin,
                     combine_.plan->sent_rows_of_token, combine_.result);
  combine_.end();
}

void EpTokenExchange::dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                       const TensorView& weights, const TensorView& slot_weights) {
  weights_.begin(plan);
  const TensorView send =
      weights_.buffers.allocate({weights.size(), 1}, weights.dtype, "weights to send");
  const TensorView arrived =
      weights_.buffers.allocate({plan.slots, 1}, weights.dtype, "weights received");
  ops::permute(ctx, column(weights), plan.choice_of_sent_slot, send);
  group_.all_to_all_v(send, plan.slots_to, arrived, plan.slots_from).wait();
  ops::permute_backward(ctx, arrived, plan.slots_of_row, column(slot_weights));
  weights_.end();
}

void EpTokenExchange::return_weights(const Context& ctx, const ExchangePlan& plan,
                                     const TensorView& dslot_weights, const TensorView& dweights) {
  weights_.begin(plan);
  const TensorView send =
      weights_.buffers.allocate({plan.slots, 1}, dweights.dtype, "weights to send");
  const TensorView arrived =
      weights_.buffers.allocate({dweights.size(), 1}, dweights.dtype, "weights received");
  ops::permute(ctx, column(dslot_weights), plan.slots_of_row, send);
  group_.all_to_all_v(send, plan.slots_from, arrived, plan.slots_to).wait();
  ops::permute_backward(ctx, arrived, plan.choice_of_sent_slot, column(dweights));
  weights_.end();
}

}  // namespace

std::unique_ptr<TokenExchange> make_token_exchange(Communicator& expert_group,
                                                   const ExchangeOptions& options) {
  if (expert_group.size() == 1) return std::make_unique<LocalTokenExchange>();
  return std::make_unique<EpTokenExchange>(expert_group, options);
}

}  // namespace witan
