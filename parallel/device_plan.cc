#include "parallel/device_plan.h"

#include <numeric>

#include "core/ops/cuda/exchange_plan.h"

namespace witan {
namespace {

std::int64_t total(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

std::int64_t total_before(const std::vector<std::int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, std::int64_t{0});
}

TensorView list(Arena& arena, std::int64_t size) {
  return arena.allocate({size}, DType::kInt32, "exchange plan");
}

}  // namespace

void DevicePlanner::begin(const Context& ctx, const TensorView& indices, std::int64_t experts,
                          const TokenExchange::Padding& padding, Arena& arena, ExchangePlan& plan) {
  const std::int64_t ranks = group_.size();
  WITAN_CHECK(experts % ranks == 0, experts, " experts do not divide over ", ranks, " ranks");
  begin_plan(indices, plan);
  Open& open = open_.push();
  open.plan = &plan;
  open.arena = &arena;
  open.padded = padding.places > 0 && plan.tokens > 0;
  WITAN_CHECK(!open.padded || rows_per_ == RowsPer::kChoice, "padding needs a row for each choice");
  plan.open = true;
  const std::int64_t places = open.padded ? padding.places : 0;
  const bool told_sizes = !open.padded || !padding.even;
  const std::int64_t choices = indices.size();
  const std::int64_t most_slots = open.padded ? experts * places : choices;
  plan.token_of_sent_row = list(arena, most_slots);
  plan.choice_of_sent_slot = list(arena, most_slots);
  plan.sent_rows_of_token_begin = list(arena, plan.tokens + 1);
  plan.sent_rows_of_token = list(arena, choices);
  open.codes = list(arena, most_slots);
  TensorView counts, told;
  if (told_sizes) {
    counts = arena.allocate({2 * ranks, 1 + experts / ranks}, DType::kInt32, "exchange plan");
    told = counts.slice_rows(0, ranks);
  }
  ops::cuda::plan_send(ctx, indices, experts, ranks, rows_per_ == RowsPer::kChoice, places,
                       {plan.token_of_sent_row, plan.choice_of_sent_slot, open.codes,
                        plan.sent_rows_of_token_begin, plan.sent_rows_of_token, told});
  open.waits = told_sizes;
  if (!told_sizes) return set_sizes(places, ranks, experts / ranks, plan);
  group_.all_to_all(told, counts.slice_rows(ranks, ranks)).wait_on(ctx);
  open.counts.begin(ctx, counts);
}

void DevicePlanner::set_sizes(std::int64_t places, std::int64_t ranks, std::int64_t local_experts,
                              ExchangePlan& plan) {
  for (auto* of_rank : {&plan.rows_to, &plan.rows_from, &plan.slots_to, &plan.slots_from}) {
    of_rank->assign(static_cast<std::size_t>(ranks), local_experts * places);
  }
  plan.expert_offsets.clear();
  for (std::int64_t expert = 0; expert <= local_experts; ++expert) {
    plan.expert_offsets.push_back(expert * ranks * places);
  }
  plan.rows = plan.slots = ranks * local_experts * places;
}

void DevicePlanner::read_sizes(const TensorView& counts, ExchangePlan& plan) {
  const std::int64_t ranks = counts.rows() / 2;
  const std::int64_t local_experts = counts.cols() - 1;
  const auto* count = counts.as<std::int32_t>();
  plan.expert_offsets.assign(static_cast<std::size_t>(local_experts + 1), 0);
  for (const bool from : {false, true}) {
    std::vector<std::int64_t>& rows = from ? plan.rows_from : plan.rows_to;
    std::vector<std::int64_t>& slots = from ? plan.slots_from : plan.slots_to;
    rows.clear();
    slots.clear();
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      rows.push_back(*count++);
      slots.push_back(0);
      for (std::int64_t expert = 1; expert <= local_experts; ++expert, ++count) {
        slots.back() += *count;
        if (from) plan.expert_offsets[static_cast<std::size_t>(expert)] += *count;
      }
    }
  }
  std::partial_sum(plan.expert_offsets.begin(), plan.expert_offsets.end(),
                   plan.expert_offsets.begin());
  plan.rows = total(plan.rows_from);
  plan.slots = total(plan.slots_from);
}

void DevicePlanner::end(const Context& ctx, ExchangePlan& plan) {
  WITAN_CHECK(!open_.empty() && open_.oldest().plan == &plan,
              "the end of an exchange plan that is not the oldest");
  plan.open = false;
  Open& open = open_.oldest();
  Arena& arena = *open.arena;
  const int rank = group_.rank();
  if (open.waits) read_sizes(open.counts.wait(), plan);
  const std::int64_t sent_rows = total(plan.rows_to);
  plan.token_of_sent_row = plan.token_of_sent_row.slice_rows(0, sent_rows);
  plan.choice_of_sent_slot = plan.choice_of_sent_slot.slice_rows(0, total(plan.slots_to));
  if (!open.padded) plan.sent_rows_of_token = plan.sent_rows_of_token.slice_rows(0, sent_rows);

  const TensorView codes = list(arena, plan.slots);
  group_
      .all_to_all_v(open.codes.slice_rows(0, total(plan.slots_to)), plan.slots_to, codes,
                    plan.slots_from)
      .wait_on(ctx);
  const auto local_experts = static_cast<std::int64_t>(plan.expert_offsets.size()) - 1;
  plan.row_of_slot = list(arena, plan.slots);
  plan.source_of_slot = list(arena, plan.slots);
  plan.slots_of_row_begin = list(arena, plan.rows + 1);
  plan.slots_of_row = list(arena, plan.slots);
  const TensorView own = plan.token_of_sent_row.slice_rows(
      total_before(plan.rows_to, rank), plan.rows_to[static_cast<std::size_t>(rank)]);
  ops::cuda::plan_receive(
      ctx, codes, local_experts, {total_before(plan.rows_from, rank), own, plan.tokens},
      {plan.row_of_slot, plan.source_of_slot, plan.slots_of_row_begin, plan.slots_of_row});
  use_indices_where_they_are(plan);
  open_.pop();
}

}  // namespace witan
