#include "parallel/ep_token_exchange.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "core/model/local_token_exchange.h"
#include "core/ops/permute.h"
#include "core/ops/slot_weights.h"
#include "parallel/device_token_exchange.h"
#include "parallel/node_windows.h"
#include "parallel/part_transfer.h"

namespace witan {
namespace {

enum Direction { kPlan, kWeights, kDispatch, kCombine };

std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

TensorView column(const TensorView& x) { return x.reshape({x.size(), 1}); }

// Where the part of a rank begins, and how long it is.
struct Range {
  std::int64_t begin, count;
};
Range part_of(std::span<const std::int64_t> counts, int rank) {
  std::int64_t begin = 0;
  for (int before = 0; before < rank; ++before) begin += counts[at(before)];
  return {begin, counts[at(rank)]};
}

std::int64_t total(std::span<const std::int64_t> counts) {
  const Range last = part_of(counts, static_cast<int>(counts.size()) - 1);
  return last.begin + last.count;
}

class EpTokenExchange final : public TokenExchange {
 public:
  EpTokenExchange(Communicator& group, const ExchangeOptions& options,
                  std::unique_ptr<NodeWindows> windows)
      : group_(group),
        options_(options),
        windows_(std::move(windows)),
        plan_(group, windows_.get(), kPlan, "exchange of the plan"),
        weights_(group, windows_.get(), kWeights, "exchange of weights"),
        dispatch_(group, windows_.get(), kDispatch, "dispatch"),
        combine_(group, windows_.get(), kCombine, "combine") {}

  BlockSource* memory() override { return windows_ ? &windows_->blocks() : nullptr; }
  int ranks() const override { return group_.size(); }
  int rank() const override { return group_.rank(); }
  std::size_t buffer_bytes() const override {
    return plan_.buffer_bytes() + weights_.buffer_bytes() + dispatch_.buffer_bytes() +
           combine_.buffer_bytes() + (windows_ ? windows_->bytes() : 0);
  }

  // The whole work is done by begin.
  void plan_begin(const Context& ctx, const TensorView& indices, std::int64_t experts,
                  const Padding& padding, const PlanArenas& arenas, ExchangePlan& plan) override;
  void plan_end(const Context&, ExchangePlan&) override {}

  void dispatch_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& x,
                      Arena& arena) override;
  DispatchedRows dispatch_end(const Context& ctx) override;

  TensorView combine_input(const ExchangePlan& plan, const TensorView& y, Arena& arena) override;
  void combine_begin(const Context& ctx, const ExchangePlan& plan, const TensorView& rows,
                     const TensorView& y) override;
  void combine_end(const Context& ctx) override;

  void dispatch_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& weights,
                        const TensorView& slot_weights) override;
  void return_weights(const Context& ctx, const ExchangePlan& plan, const TensorView& dslot_weights,
                      const TensorView& dweights) override;

 private:
  // visit(peer) for the other ranks, the next one first: so not everybody reads from one rank.
  template <class Visit>
  void for_each_peer(Visit&& visit) const {
    for (int step = 1; step < ranks(); ++step) visit((rank() + step) % ranks());
  }
  // Sends units of memory `from`, laid out by rank, and brings those of the others into `to`.
  void move_units(PartTransfer& transfer, const void* from, std::span<const std::int64_t> send,
                  void* to, std::span<const std::int64_t> recv, std::size_t unit_bytes);
  void exchange_sizes(ExchangePlan& plan);
  void exchange_rows(ExchangePlan& plan, Arena& arena);
  void place_sources(ExchangePlan& plan, Arena& arena) const;
  PartTransfer::Unit row_unit(const TensorView& x) const {
    return {ops::wire_row_bytes(ops::WireFormat::kAsIs, x.dtype, x.cols()),
            ops::wire_row_bytes(options_.format, x.dtype, x.cols())};
  }
  ops::WireFormat format_for(const PartTransfer& transfer, int peer) const {
    return transfer.far(peer) ? options_.format : ops::WireFormat::kAsIs;
  }

  Communicator& group_;
  ExchangeOptions options_;
  std::unique_ptr<NodeWindows> windows_;
  PartTransfer plan_, weights_, dispatch_, combine_;

  SlotCodes codes_;                  // of this rank's choices
  std::vector<SlotCode> received_;   // of the slots of this rank's experts
  std::vector<std::int64_t> sizes_;  // [2, ranks, 2] rows and slots for, then from each rank
  std::vector<std::int32_t> message_, arrived_;      // of the plan
  std::vector<std::int64_t> words_to_, words_from_;  // [ranks] their parts
  std::vector<std::int64_t> one_each_;               // [ranks]
  Arena weight_buffers_{Device{}, "routing weight buffers"};

  // What is on its way.
  const ExchangePlan* dispatch_plan_ = nullptr;
  const ExchangePlan* combine_plan_ = nullptr;
  DispatchedRows dispatched_;
  TensorView to_combine_, combined_;
  std::vector<const void*> combine_rows_;     // [sent rows] where each row lies that comes back
  std::vector<std::uint8_t> combine_narrow_;  // [sent rows] whether it is bfloat16; empty: none is
};

void EpTokenExchange::move_units(PartTransfer& transfer, const void* from,
                                 std::span<const std::int64_t> send, void* to,
                                 std::span<const std::int64_t> recv, std::size_t unit_bytes) {
  const auto bytes = [&](std::int64_t units) {
    return static_cast<std::size_t>(units) * unit_bytes;
  };
  const auto* source = static_cast<const std::byte*>(from);
  auto* target = static_cast<std::byte*>(to);
  const auto unit = static_cast<std::int64_t>(unit_bytes);
  transfer.open({unit, unit}, send);
  for_each_peer([&](int peer) {
    const Range part = part_of(send, peer);
    if (part.count > 0)
      std::memcpy(transfer.part_for(peer), source + bytes(part.begin), bytes(part.count));
  });
  transfer.send(recv);
  const Range own = part_of(send, rank());
  const Range kept = part_of(recv, rank());
  if (own.count > 0)
    std::memcpy(target + bytes(kept.begin), source + bytes(own.begin), bytes(own.count));
  for_each_peer([&](int peer) {
    const Range part = part_of(recv, peer);
    if (part.count > 0)
      std::memcpy(target + bytes(part.begin), transfer.part_from(peer), bytes(part.count));
  });
  transfer.close();
}

void EpTokenExchange::exchange_sizes(ExchangePlan& plan) {
  const std::size_t size = at(ranks());
  one_each_.assign(size, 1);
  sizes_.resize(4 * size);
  for (std::size_t peer = 0; peer < size; ++peer) {
    sizes_[2 * peer] = plan.rows_to[peer];
    sizes_[2 * peer + 1] = plan.slots_to[peer];
  }
  std::int64_t* const from = sizes_.data() + 2 * size;
  move_units(plan_, sizes_.data(), one_each_, from, one_each_, 2 * sizeof(std::int64_t));
  plan.rows_from.clear();
  plan.slots_from.clear();
  for (std::size_t peer = 0; peer < size; ++peer) {
    plan.rows_from.push_back(from[2 * peer]);
    plan.slots_from.push_back(from[2 * peer + 1]);
    WITAN_CHECK(from[2 * peer] >= 0 && from[2 * peer] <= from[2 * peer + 1], "exchange plan: rank ",
                peer, " announced ", from[2 * peer], " rows and ", from[2 * peer + 1], " slots");
  }
}

void EpTokenExchange::plan_begin(const Context&, const TensorView& indices, std::int64_t experts,
                                 const Padding& padding, const PlanArenas& arenas,
                                 ExchangePlan& plan) {
  Arena& arena = arenas.host;
  begin_plan(indices, plan);
  plan_send({indices.as<std::int32_t>(), static_cast<std::size_t>(indices.size())}, experts,
            ranks(), options_.rows_per, padding.places, arena, codes_, plan);
  exchange_sizes(plan);
  exchange_rows(plan, arena);
  plan_receive(received_, local_experts(experts), arena, plan);
  place_sources(plan, arena);
  use_indices_where_they_are(plan);
}

// The rows of the others lie without those of this rank between them.
void EpTokenExchange::place_sources(ExchangePlan& plan, Arena& arena) const {
  plan.source_of_slot = arena.allocate({plan.slots}, DType::kInt32, "exchange plan");
  const auto* row = plan.row_of_slot.as<std::int32_t>();
  const auto* token = plan.token_of_row.as<std::int32_t>();
  auto* source = plan.source_of_slot.as<std::int32_t>();
  const Range own = part_of(plan.rows_from, rank());
  for (std::int64_t slot = 0; slot < plan.slots; ++slot) {
    const std::int64_t r = row[slot];
    const std::int64_t other = plan.tokens + (r < own.begin ? r : r - own.count);
    const bool is_own = r >= own.begin && r < own.begin + own.count;
    source[slot] = is_own ? token[r] : static_cast<std::int32_t>(other);
  }
}

// What each rank has to know about the slots and the rows that it gets: the slots' codes, then the
// rows' tokens.
void EpTokenExchange::exchange_rows(ExchangePlan& plan, Arena& arena) {
  const auto* token = plan.token_of_sent_row.as<std::int32_t>();
  const auto append = [](std::vector<std::int32_t>& to, const auto* from, Range range) {
    const auto* first = reinterpret_cast<const std::int32_t*>(from + range.begin);
    to.insert(to.end(), first, first + range.count);
  };
  static_assert(sizeof(SlotCode) == sizeof(std::int32_t));
  std::vector<std::int64_t>& send = words_to_;
  std::vector<std::int64_t>& recv = words_from_;
  message_.clear();
  send.clear();
  recv.clear();
  for (int peer = 0; peer < ranks(); ++peer) {
    append(message_, codes_.codes.data(), part_of(plan.slots_to, peer));
    append(message_, token, part_of(plan.rows_to, peer));
    send.push_back(plan.slots_to[at(peer)] + plan.rows_to[at(peer)]);
    recv.push_back(plan.slots_from[at(peer)] + plan.rows_from[at(peer)]);
  }
  arrived_.resize(static_cast<std::size_t>(total(recv)));
  move_units(plan_, message_.data(), send, arrived_.data(), recv, sizeof(std::int32_t));

  plan.token_of_row = arena.allocate({total(plan.rows_from)}, DType::kInt32, "exchange plan");
  received_.clear();
  const std::int32_t* word = arrived_.data();
  auto* row = plan.token_of_row.as<std::int32_t>();
  for (int peer = 0; peer < ranks(); ++peer) {
    const auto* codes = reinterpret_cast<const SlotCode*>(word);
    received_.insert(received_.end(), codes, codes + plan.slots_from[at(peer)]);
    word += plan.slots_from[at(peer)];
    row = std::copy_n(word, plan.rows_from[at(peer)], row);
    word += plan.rows_from[at(peer)];
  }
}

void EpTokenExchange::dispatch_begin(const Context& ctx, const ExchangePlan& plan,
                                     const TensorView& x, Arena& arena) {
  dispatch_.open(row_unit(x), plan.rows_to, x);
  dispatch_plan_ = &plan;
  const std::int64_t own_rows = plan.rows_from[at(rank())];
  dispatched_ = {
      x, arena.allocate(x.shape.with_rows(plan.rows - own_rows), x.dtype, "dispatched rows")};
  const auto tokens_for = [&](int peer) {
    const Range part = part_of(plan.rows_to, peer);
    return plan.token_of_sent_row.slice_rows(part.begin, part.count);
  };
  for_each_peer([&](int peer) {
    if (!dispatch_.needs_part(peer)) return;
    ops::pack_rows(ctx, x, tokens_for(peer), format_for(dispatch_, peer), dispatch_.part_for(peer));
  });
  dispatch_.send(plan.rows_from);
}

DispatchedRows EpTokenExchange::dispatch_end(const Context& ctx) {
  WITAN_CHECK(dispatch_.is_open(), "the end of a dispatch that has not begun");
  for_each_peer([&](int peer) {
    const Range part = part_of(dispatch_plan_->rows_from, peer);
    if (part.count == 0) return;
    const std::int64_t own_before = peer > rank() ? dispatch_plan_->rows_from[at(rank())] : 0;
    const TensorView rows = dispatched_.others.slice_rows(part.begin - own_before, part.count);
    const TensorView x = dispatch_.rows_from(peer, rows);
    if (x.empty()) {
      ops::unpack_rows(ctx, dispatch_.part_from(peer), format_for(dispatch_, peer), rows);
    } else {
      ops::permute(ctx, x, dispatch_plan_->token_of_row.slice_rows(part.begin, part.count), rows);
    }
  });
  dispatch_.close();
  return dispatched_;
}

TensorView EpTokenExchange::combine_input(const ExchangePlan& plan, const TensorView& y,
                                          Arena& arena) {
  const Shape shape = y.shape.with_rows(plan.rows);
  if (windows_ != nullptr && !combine_.is_open()) {  // not while another chunk is on its way
    combine_.open(row_unit(y), plan.rows_from);
    return {combine_.all_parts(), shape, y.dtype, Device{}};
  }
  return arena.allocate(shape, y.dtype, "rows to combine");
}

void EpTokenExchange::combine_begin(const Context& ctx, const ExchangePlan& plan,
                                    const TensorView& rows, const TensorView& y) {
  if (!combine_.is_open()) combine_.open(row_unit(y), plan.rows_from);
  combine_plan_ = &plan;
  to_combine_ = rows;
  combined_ = y;
  for_each_peer([&](int peer) {
    const Range part = part_of(plan.rows_from, peer);
    const TensorView source = rows.slice_rows(part.begin, part.count);
    std::byte* const target = combine_.part_for(peer);
    if (source.data == target) return;
    ops::pack_all_rows(ctx, source, format_for(combine_, peer), target);
  });
  combine_.send(plan.rows_to);
}

void EpTokenExchange::combine_end(const Context& ctx) {
  WITAN_CHECK(combine_.is_open(), "the end of a combine that has not begun");
  const ExchangePlan& plan = *combine_plan_;
  const PartTransfer::Unit unit = row_unit(combined_);
  const auto sent = static_cast<std::size_t>(plan.token_of_sent_row.size());
  combine_rows_.resize(sent);
  combine_narrow_.assign(options_.format == ops::WireFormat::kAsIs ? 0 : sent, 0);
  const auto place = [&](int from, const void* first) {
    const Range part = part_of(plan.rows_to, from);
    const bool far = combine_.far(from);
    const auto* row = static_cast<const std::byte*>(first);
    for (std::int64_t r = part.begin; r < part.begin + part.count; ++r) {
      combine_rows_[static_cast<std::size_t>(r)] = row;
      if (!combine_narrow_.empty()) combine_narrow_[static_cast<std::size_t>(r)] = far ? 1 : 0;
      row += far ? unit.far_bytes : unit.near_bytes;
    }
  };
  const Range own = part_of(plan.rows_from, rank());
  place(rank(), to_combine_.slice_rows(own.begin, own.count).data);
  for_each_peer([&](int peer) {
    if (plan.rows_to[at(peer)] > 0) place(peer, combine_.part_from(peer));
  });
  ops::sum_wire_rows(ctx, combine_rows_, combine_narrow_, plan.sent_rows_of_token_begin,
                     plan.sent_rows_of_token, combined_);
  combine_.close();
}

void EpTokenExchange::dispatch_weights(const Context& ctx, const ExchangePlan& plan,
                                       const TensorView& weights, const TensorView& slot_weights) {
  ArenaScope scope(weight_buffers_);
  const TensorView send = weight_buffers_.allocate({plan.choice_of_sent_slot.size(), 1},
                                                   weights.dtype, "weights to send");
  const TensorView arrived =
      weight_buffers_.allocate({plan.slots, 1}, weights.dtype, "weights received");
  ops::move_weights(ctx, weights, plan.choice_of_sent_slot, send, {});
  move_units(weights_, send.data, plan.slots_to, arrived.data, plan.slots_from,
             size_of(weights.dtype));
  ops::permute_backward(ctx, arrived, plan.slots_of_row, column(slot_weights));
}

void EpTokenExchange::return_weights(const Context& ctx, const ExchangePlan& plan,
                                     const TensorView& dslot_weights, const TensorView& dweights) {
  ArenaScope scope(weight_buffers_);
  const TensorView send =
      weight_buffers_.allocate({plan.slots, 1}, dweights.dtype, "weights to send");
  const TensorView arrived = weight_buffers_.allocate({plan.choice_of_sent_slot.size(), 1},
                                                      dweights.dtype, "weights received");
  ops::permute(ctx, column(dslot_weights), plan.slots_of_row, send);
  move_units(weights_, send.data, plan.slots_from, arrived.data, plan.slots_to,
             size_of(dweights.dtype));
  ops::move_weights(ctx, arrived, {}, dweights, plan.choice_of_sent_slot);
}

std::unique_ptr<NodeWindows> make_windows(Communicator& group, const ExchangeOptions& options) {
  if (options.transport == ExchangeTransport::kAllToAll) return nullptr;
  std::int64_t node = options.node;
  std::vector<std::int64_t> nodes(at(group.size()));
  group.all_gather(view_of(&node, {1}), view_of(nodes.data(), {group.size()})).wait();
  std::string why_not;
  std::unique_ptr<NodeWindows> windows = NodeWindows::make(group, nodes, why_not);
  if (windows == nullptr && options.transport == ExchangeTransport::kSharedWindows) {
    throw_user_error(
        "parallel.exchange.transport: SHARED_WINDOWS, but the ranks of a node cannot "
        "read each other's memory",
        why_not.empty() ? "" : ": ", why_not, "; use AUTO or ALL_TO_ALL");
  }
  return windows;
}

}  // namespace

std::unique_ptr<TokenExchange> make_token_exchange(Communicator& expert_group,
                                                   const ExchangeOptions& options, Device device) {
  if (expert_group.size() == 1) return std::make_unique<LocalTokenExchange>(device);
  if (device.is_cuda()) {
    return make_device_token_exchange(
        std::make_unique<EpTokenExchange>(expert_group, options, nullptr), expert_group,
        options.rows_per, options.format, device);
  }
  return std::make_unique<EpTokenExchange>(expert_group, options,
                                           make_windows(expert_group, options));
}

}  // namespace witan
