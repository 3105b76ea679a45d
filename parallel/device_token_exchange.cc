#include "parallel/device_token_exchange.h"

#include <utility>
#include <vector>

#include "core/ops/elementwise.h"
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
                      ops::WireFormat format, Device device)
      : host_(std::move(host)),
        group_(group),
        format_(format),
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
                  const Padding& padding, const PlanArenas& arenas, ExchangePlan& plan) override {
    if (indices.device.is_cuda()) {
      return planner_.begin(ctx, indices, experts, padding, arenas.here, plan);
    }
    host_->plan_begin({}, indices, experts, padding, arenas, plan);
    place_indices(ctx, arenas.here, plan);
  }
  void plan_end(const Context& ctx, ExchangePlan& plan) override {
    if (plan.open) planner_.end(ctx, plan);
  }

  void dispatch_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                      Arena& arena) override;
  DispatchedRows dispatch_end(const Context& ctx) override {
    WITAN_CHECK(dispatch_open_, "the end of a dispatch that has not begun");
    dispatch_.wait_on(ctx);
    if (rounds()) ops::unpack_rows(ctx, bytes_of(arriving_, 0), format_, dispatched_.others);
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
  // Rows of ranks below this one, of its own, of those above.
  struct Parts {
    std::int64_t below = 0, own = 0, above = 0;
    std::int64_t others() const { return below + above; }
  };
  Parts parts_of(const std::vector<std::int64_t>& rows) const;  // by rank
  // `counts`: `rows` by rank, none for this one.
  Parts without_own(const std::vector<std::int64_t>& rows, std::vector<std::int64_t>& counts) const;

  bool rounds() const { return format_ != ops::WireFormat::kAsIs; }
  // Memory of rows like those of x on their way.
  TensorView on_wire(Arena& arena, const TensorView& x, std::int64_t rows, const char* label) const;
  static std::byte* bytes_of(const TensorView& wire, std::int64_t row) {
    return static_cast<std::byte*>(wire.slice_rows(row, 0).data);
  }
  void combine_rounded(const Context& ctx, const ExchangePlan& plan, const TensorView& rows);

  std::unique_ptr<TokenExchange> host_;
  Communicator& group_;
  ops::WireFormat format_;  // of rows of and for other ranks
  DevicePlanner planner_;
  Arena weights_, outgoing_, returned_;
  std::vector<std::int64_t> send_, recv_;  // [ranks] rows to and from others

  // What is on its way.
  bool dispatch_open_ = false;
  Request dispatch_, combine_;
  DispatchedRows dispatched_;
  TensorView arriving_;  // others' rows of a dispatch, in bfloat16
  const ExchangePlan* combine_plan_ = nullptr;
  TensorView arrived_, combined_;
  TensorView returning_;  // others' rows of a combine, in bfloat16
};

DeviceTokenExchange::Parts DeviceTokenExchange::parts_of(
    const std::vector<std::int64_t>& rows) const {
  Parts parts;
  for (int peer = 0; peer < ranks(); ++peer) {
    (peer < rank() ? parts.below : peer == rank() ? parts.own : parts.above) += rows[at(peer)];
  }
  return parts;
}

DeviceTokenExchange::Parts DeviceTokenExchange::without_own(
    const std::vector<std::int64_t>& rows, std::vector<std::int64_t>& counts) const {
  counts = rows;
  counts[at(rank())] = 0;
  return parts_of(rows);
}

TensorView DeviceTokenExchange::on_wire(Arena& arena, const TensorView& x, std::int64_t rows,
                                        const char* label) const {
  if (!rounds()) return arena.allocate(x.shape.with_rows(rows), x.dtype, label);
  constexpr std::int64_t kWord = 4;
  const std::int64_t words = ops::wire_row_bytes(format_, x.dtype, x.cols()) / kWord;
  return arena.allocate({rows, words}, DType::kInt32, label);
}

void DeviceTokenExchange::dispatch_begin(const Context& ctx, const ExchangePlan& plan,
                                         const TensorView& x, Arena& arena) {
  WITAN_CHECK(!dispatch_open_, "a dispatch was begun twice");
  const Parts out = without_own(plan.rows_to, send_);
  const Parts in = without_own(plan.rows_from, recv_);
  const TensorView& token = plan.here.token_of_sent_row;
  outgoing_.reset();
  const TensorView rows = on_wire(outgoing_, x, out.others(), "rows to send");
  ops::pack_rows(ctx, x, token.slice_rows(0, out.below), format_, bytes_of(rows, 0));
  ops::pack_rows(ctx, x, token.slice_rows(out.below + out.own, out.above), format_,
                 bytes_of(rows, out.below));
  dispatched_ = {x, arena.allocate(x.shape.with_rows(in.others()), x.dtype, "dispatched rows")};
  arriving_ =
      rounds() ? on_wire(outgoing_, x, in.others(), "rows that arrive") : dispatched_.others;
  dispatch_ = group_.all_to_all_v(rows, send_, arriving_, recv_);
  dispatch_open_ = true;
}

// This rank's own rows go along, a copy inside its memory: the sums read from one tensor.
void DeviceTokenExchange::combine_begin(const Context& ctx, const ExchangePlan& plan,
                                        const TensorView& rows, const TensorView& y) {
  WITAN_CHECK(combine_plan_ == nullptr, "a combine was begun twice");
  combine_plan_ = &plan;
  combined_ = y;
  returned_.reset();
  arrived_ = returned_.allocate(y.shape.with_rows(plan.token_of_sent_row.size()), y.dtype,
                                "rows that come back");
  if (rounds()) return combine_rounded(ctx, plan, rows);
  combine_ = group_.all_to_all_v(rows, plan.rows_from, arrived_, plan.rows_to);
}

// Only what travels is rounded: this rank's own rows are not.
void DeviceTokenExchange::combine_rounded(const Context& ctx, const ExchangePlan& plan,
                                          const TensorView& rows) {
  const Parts out = without_own(plan.rows_from, send_);
  const Parts in = without_own(plan.rows_to, recv_);
  const TensorView wire = on_wire(returned_, rows, out.others(), "rows to return");
  ops::pack_all_rows(ctx, rows.slice_rows(0, out.below), format_, bytes_of(wire, 0));
  ops::pack_all_rows(ctx, rows.slice_rows(out.below + out.own, out.above), format_,
                     bytes_of(wire, out.below));
  returning_ = on_wire(returned_, rows, in.others(), "rows that come back");
  combine_ = group_.all_to_all_v(wire, send_, returning_, recv_);
  ops::copy(ctx, rows.slice_rows(out.below, out.own), arrived_.slice_rows(in.below, in.own));
}

void DeviceTokenExchange::combine_end(const Context& ctx) {
  WITAN_CHECK(combine_plan_ != nullptr, "the end of a combine that has not begun");
  combine_.wait_on(ctx);
  if (rounds()) {
    const Parts in = parts_of(combine_plan_->rows_to);
    ops::unpack_rows(ctx, bytes_of(returning_, 0), format_, arrived_.slice_rows(0, in.below));
    ops::unpack_rows(ctx, bytes_of(returning_, in.below), format_,
                     arrived_.slice_rows(in.below + in.own, in.above));
  }
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
                                                          ops::WireFormat format, Device device) {
  return std::make_unique<DeviceTokenExchange>(std::move(host), group, rows_per, format, device);
}

}  // namespace witan
