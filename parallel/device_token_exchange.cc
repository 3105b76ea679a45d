#include "parallel/device_token_exchange.h"

#include <utility>
#include <vector>

#include "core/ops/permute.h"
#include "core/ops/slot_weights.h"
#include "core/tensor/twin.h"
#include "parallel/device_plan.h"

namespace witan {
namespace {

constexpr const char* kWeights = "routing weights";

std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

class DeviceTokenExchange final : public TokenExchange {
 public:
  DeviceTokenExchange(std::unique_ptr<TokenExchange> host, Communicator& group, RowsPer rows_per,
                      Device device)
      : host_(std::move(host)),
        group_(group),
        planner_(group, rows_per),
        weights_(device, "routing weights on their way"),
        outgoing_(device, "rows to send"),
        returned_(device, "rows that come back") {}

  int ranks() const override { return group_.size(); }
  int rank() const override { return group_.rank(); }
  std::size_t buffer_bytes() const override {
    return host_->buffer_bytes() + weights_.bytes_reserved() + outgoing_.bytes_reserved() +
           returned_.bytes_reserved();
  }

  void plan_begin(const Context& ctx, const TensorView& indices, std::int64_t experts,
                  std::int64_t places, const PlanArenas& arenas, ExchangePlan& plan) override {
    if (indices.device.is_cuda()) {
      return planner_.begin(ctx, indices, experts, places, arenas.here, plan);
    }
    host_->plan_begin({}, indices, experts, places, arenas, plan);
    place_indices(ctx, arenas.here, plan);
  }
  void plan_end(const Context& ctx, ExchangePlan& plan) override {
    if (planner_.is_next(plan)) planner_.end(ctx, plan);  // else it is complete
  }

  void dispatch_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                      Arena& arena) override;
  DispatchedRows dispatch_end(const Context& ctx) override {
    WITAN_CHECK(dispatch_open_, "the end of a dispatch that has not begun");
    dispatch_.wait_on(ctx);
    dispatch_open_ = false;
    return dispatched_;
  }

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
  std::unique_ptr<TokenExchange> host_;
  Communicator& group_;
  DevicePlanner planner_;
  Arena weights_, outgoing_, returned_;
  std::vector<std::int64_t> send_, recv_;  // [ranks] rows of a dispatch, none to this rank

  // What is on its way.
  bool dispatch_open_ = false;
  Request dispatch_, combine_;
  DispatchedRows dispatched_;
  const ExchangePlan* combine_plan_ = nullptr;
  TensorView arrived_, combined_;
};

void DeviceTokenExchange::dispatch_begin(const Context& ctx, const ExchangePlan& plan,
                                         const TensorView& x, Arena& arena) {
  WITAN_CHECK(!dispatch_open_, "a dispatch was begun twice");
  const std::size_t own = at(rank());
  send_ = plan.rows_to;
  recv_ = plan.rows_from;
  const std::int64_t own_sent = std::exchange(send_[own], 0);
  const std::int64_t own_received = std::exchange(recv_[own], 0);
  std::int64_t before = 0;
  for (std::size_t peer = 0; peer < own; ++peer) before += send_[peer];
  const TensorView& token = plan.here.token_of_sent_row;
  const std::int64_t after = token.size() - before - own_sent;

  outgoing_.reset();
  const TensorView rows =
      outgoing_.allocate(x.shape.with_rows(before + after), x.dtype, "rows to send");
  ops::permute(ctx, x, token.slice_rows(0, before), rows.slice_rows(0, before));
  ops::permute(ctx, x, token.slice_rows(before + own_sent, after), rows.slice_rows(before, after));
  dispatched_ = {
      x, arena.allocate(x.shape.with_rows(plan.rows - own_received), x.dtype, "dispatched rows")};
  dispatch_ = group_.all_to_all_v(rows, send_, dispatched_.others, recv_);
  dispatch_open_ = true;
}

// This rank's own rows go along, a copy inside its memory: the sums read from one tensor.
void DeviceTokenExchange::combine_begin(const Context&, const ExchangePlan& plan,
                                        const TensorView& rows, const TensorView& y) {
  WITAN_CHECK(combine_plan_ == nullptr, "a combine was begun twice");
  combine_plan_ = &plan;
  combined_ = y;
  returned_.reset();
  arrived_ = returned_.allocate(y.shape.with_rows(plan.token_of_sent_row.size()), y.dtype,
                                "rows that come back");
  combine_ = group_.all_to_all_v(rows, plan.rows_from, arrived_, plan.rows_to);
}

void DeviceTokenExchange::combine_end(const Context& ctx) {
  WITAN_CHECK(combine_plan_ != nullptr, "the end of a combine that has not begun");
  combine_.wait_on(ctx);
  const ExchangePlan::RowIndices& here = std::exchange(combine_plan_, nullptr)->here;
  ops::unpermute_sum(ctx, arrived_, here.sent_rows_of_token_begin, here.sent_rows_of_token,
                     combined_);
}

void DeviceTokenExchange::dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                           const TensorView& weights,
                                           const TensorView& slot_weights) {
  ArenaScope scope(weights_);
  const TensorView here = copy_in(ctx, weights_, weights, kWeights);
  const TensorView send =
      weights_.allocate({plan.here.choice_of_sent_slot.size()}, weights.dtype, kWeights);
  const TensorView arrived = weights_.allocate({plan.slots}, weights.dtype, kWeights);
  ops::move_weights(ctx, here, plan.here.choice_of_sent_slot, send, {});
  group_.all_to_all_v(send, plan.slots_to, arrived, plan.slots_from).wait_on(ctx);
  ops::move_weights(ctx, arrived, {}, slot_weights, plan.here.slots_of_row);
}

void DeviceTokenExchange::return_weights(const Context& ctx, const ExchangePlan& plan,
                                         const TensorView& dslot_weights,
                                         const TensorView& dweights) {
  ArenaScope scope(weights_);
  const TensorView here = twin_in(weights_, dweights, kWeights);
  const TensorView send = weights_.allocate({plan.slots}, dweights.dtype, kWeights);
  const TensorView arrived =
      weights_.allocate({plan.here.choice_of_sent_slot.size()}, dweights.dtype, kWeights);
  ops::move_weights(ctx, dslot_weights, plan.here.slots_of_row, send, {});
  group_.all_to_all_v(send, plan.slots_from, arrived, plan.slots_to).wait_on(ctx);
  ops::move_weights(ctx, arrived, {}, here, plan.here.choice_of_sent_slot);
  bring(ctx, here, dweights);
}

}  // namespace

std::unique_ptr<TokenExchange> make_device_token_exchange(std::unique_ptr<TokenExchange> host,
                                                          Communicator& group, RowsPer rows_per,
                                                          Device device) {
  return std::make_unique<DeviceTokenExchange>(std::move(host), group, rows_per, device);
}

}  // namespace witan
