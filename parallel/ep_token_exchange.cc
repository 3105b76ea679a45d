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

  void finish() {
    request.wait();
    WITAN_CHECK(plan != nullptr, "the end of a transfer that has not begun");
  }
  void clear() {
    plan = nullptr;
    buffers.reset();
  }

  Arena buffers;
  Request request;
  const ExchangePlan* plan = nullptr;
  TensorView arrived;  // rows as they come off the network
  TensorView result;
};

TensorView column(const TensorView& x) { return x.reshape({x.size(), 1}); }

class EpTokenExchange final : public TokenExchange {
 public:
  explicit EpTokenExchange(Communicator& group) : group_(group) {}

  int ranks() const override { return group_.size(); }
  int rank() const override { return group_.rank(); }
  std::size_t buffer_bytes() const override {
    return dispatch_.buffers.bytes_reserved() + combine_.buffers.bytes_reserved() +
           weights_.buffers.bytes_reserved();
  }

  void plan(const Context& ctx, const TensorView& indices, std::int64_t experts, Arena& arena,
            ExchangePlan& plan) override;

  void dispatch_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                      const TensorView& rows) override {
    scatter_begin(ctx, plan, x, plan.token_of_slot, rows, dispatch_);
  }
  void dispatch_end(const Context& ctx) override { scatter_end(ctx, dispatch_); }

  void combine_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
                     const TensorView& y) override {
    gather_begin(ctx, plan, rows, y, combine_);
  }
  void combine_end(const Context& ctx) override {
    combine_.finish();
    ops::unpermute_sum(ctx, combine_.arrived, combine_.plan->slot_of_choice, combine_.result);
    combine_.clear();
  }

  void dispatch_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& weights,
                        const TensorView& row_weights) override {
    scatter_begin(ctx, plan, column(weights), plan.choice_of_slot, column(row_weights), weights_);
    scatter_end(ctx, weights_);
  }
  void return_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& drow_weights,
                      const TensorView& dweights) override {
    gather_begin(ctx, plan, column(drow_weights), column(dweights), weights_);
    weights_.finish();
    ops::permute_backward(ctx, weights_.arrived, plan.choice_of_slot, weights_.result);
    weights_.clear();
  }

 private:
  // Towards the experts: slot s of the send buffer is row source_of_slot[s] of `from`.
  void scatter_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& from,
                     const TensorView& source_of_slot, const TensorView& to, Transfer& transfer);
  void scatter_end(const Context& ctx, Transfer& transfer);
  // Back to the tokens: leaves in transfer.arrived one row per slot.
  void gather_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& from,
                    const TensorView& to, Transfer& transfer);

  Communicator& group_;
  std::vector<std::int64_t> send_counts_;  // [ranks, local experts]: this rank's rows by expert
  std::vector<std::int64_t> recv_counts_;  // [ranks, local experts]: rows from each rank
  Transfer dispatch_{"dispatch buffers"};
  Transfer combine_{"combine buffers"};
  Transfer weights_{"routing weight buffers"};
};

void EpTokenExchange::plan(const Context&, const TensorView& indices, std::int64_t experts,
                           Arena& arena, ExchangePlan& plan) {
  begin_plan(indices, arena, plan);
  send_counts_.resize(static_cast<std::size_t>(experts));
  recv_counts_.resize(static_cast<std::size_t>(experts));
  plan_send({indices.as<std::int32_t>(), static_cast<std::size_t>(indices.size())}, experts,
            ranks(), send_counts_, plan);
  const Shape by_rank = {ranks(), local_experts(experts)};
  group_.all_to_all(view_of(send_counts_.data(), by_rank), view_of(recv_counts_.data(), by_rank))
      .wait();
  plan_receive(recv_counts_, ranks(), arena, plan);
}

void EpTokenExchange::scatter_begin(const Context& ctx, const ExchangePlan& plan,
                                    const TensorView& from, const TensorView& source_of_slot,
                                    const TensorView& to, Transfer& transfer) {
  WITAN_CHECK(transfer.plan == nullptr, "a transfer of this direction is already on its way");
  const Shape slots = to.shape.with_rows(source_of_slot.size());
  const TensorView send = transfer.buffers.allocate(slots, from.dtype, "rows to send");
  transfer.arrived = transfer.buffers.allocate(to.shape, to.dtype, "rows received");
  transfer.result = to;
  transfer.plan = &plan;
  ops::permute(ctx, from, source_of_slot, send);
  transfer.request =
      group_.all_to_all_v(send, plan.send_counts, transfer.arrived, plan.recv_counts);
}

void EpTokenExchange::scatter_end(const Context& ctx, Transfer& transfer) {
  transfer.finish();
  ops::permute(ctx, transfer.arrived, transfer.plan->arrival_of_row, transfer.result);
  transfer.clear();
}

void EpTokenExchange::gather_begin(const Context& ctx, const ExchangePlan& plan,
                                   const TensorView& from, const TensorView& to,
                                   Transfer& transfer) {
  WITAN_CHECK(transfer.plan == nullptr, "a transfer of this direction is already on its way");
  const Shape slots = to.shape.with_rows(plan.choice_of_slot.size());
  const TensorView send = transfer.buffers.allocate(from.shape, from.dtype, "rows to send");
  transfer.arrived = transfer.buffers.allocate(slots, to.dtype, "rows received");
  transfer.result = to;
  transfer.plan = &plan;
  ops::permute_backward(ctx, from, plan.arrival_of_row, send);
  transfer.request =
      group_.all_to_all_v(send, plan.recv_counts, transfer.arrived, plan.send_counts);
}

}  // namespace

std::unique_ptr<TokenExchange> make_token_exchange(Communicator& expert_group) {
  if (expert_group.size() == 1) return std::make_unique<LocalTokenExchange>();
  return std::make_unique<EpTokenExchange>(expert_group);
}

}  // namespace witan
