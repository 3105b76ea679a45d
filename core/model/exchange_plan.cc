#include "core/model/exchange_plan.h"

#include <limits>

namespace witan {
namespace {

constexpr std::int64_t kMaxRows = std::numeric_limits<std::int32_t>::max();
constexpr const char* kLabel = "exchange plan";

std::span<std::int32_t> indices_of(const TensorView& view) {
  return {view.as<std::int32_t>(), static_cast<std::size_t>(view.size())};
}

// Turns counts into where each expert's rows begin; the inverse comes after the rows were placed,
// when each cursor has moved to the end of its expert.
void counts_to_cursors(std::span<std::int64_t> counts) {
  std::int64_t begin = 0;
  for (std::int64_t& count : counts) {
    const std::int64_t rows = count;
    count = begin;
    begin += rows;
  }
}

void cursors_to_counts(std::span<std::int64_t> cursors) {
  std::int64_t begin = 0;
  for (std::int64_t& cursor : cursors) {
    const std::int64_t end = cursor;
    cursor = end - begin;
    begin = end;
  }
}

}  // namespace

void begin_plan(const TensorView& indices, Arena& arena, ExchangePlan& plan) {
  WITAN_CHECK(indices.shape.rank() == 2 && indices.dtype == DType::kInt32,
              "expert indices: expected [tokens, top_k] int32, found ", indices.shape.to_string(),
              " ", name_of(indices.dtype));
  WITAN_CHECK(indices.device.is_cpu(), "expert indices: expected CPU memory, found ",
              name_of(indices.device.type));
  WITAN_CHECK(indices.size() <= kMaxRows, "tokens * top_k = ", indices.size(),
              " exceeds what 32-bit row indices can address; use smaller micro-batches");
  plan.tokens = indices.shape[0];
  plan.top_k = indices.shape[1];
  plan.token_of_slot = arena.allocate({indices.size()}, DType::kInt32, kLabel);
  plan.choice_of_slot = arena.allocate({indices.size()}, DType::kInt32, kLabel);
  plan.slot_of_choice = arena.allocate(indices.shape, DType::kInt32, kLabel);
}

void plan_send(std::span<const std::int32_t> indices, std::int64_t experts, int ranks,
               std::span<std::int64_t> counts, ExchangePlan& plan) {
  WITAN_CHECK(ranks > 0 && experts % ranks == 0, experts, " experts do not divide over ", ranks,
              " ranks");
  WITAN_CHECK(static_cast<std::int64_t>(counts.size()) == experts, "counts: expected [", experts,
              "], found [", counts.size(), "]");
  WITAN_CHECK(static_cast<std::int64_t>(indices.size()) == plan.tokens * plan.top_k,
              "expert indices: expected ", plan.tokens * plan.top_k, ", found ", indices.size());
  for (std::int64_t& count : counts) count = 0;
  for (const std::int32_t expert : indices) {
    WITAN_CHECK(expert >= 0 && expert < experts, "expert ", expert, " is not one of the ", experts);
    ++counts[static_cast<std::size_t>(expert)];
  }

  // Experts are held in order of their ids, so the order by expert is also the order by rank.
  const std::size_t local_experts = static_cast<std::size_t>(experts / ranks);
  plan.send_counts.assign(static_cast<std::size_t>(ranks), 0);
  for (std::size_t expert = 0; expert < counts.size(); ++expert)
    plan.send_counts[expert / local_experts] += counts[expert];

  const auto token_of_slot = indices_of(plan.token_of_slot);
  const auto choice_of_slot = indices_of(plan.choice_of_slot);
  const auto slot_of_choice = indices_of(plan.slot_of_choice);
  counts_to_cursors(counts);
  std::size_t choice = 0;
  for (std::int64_t token = 0; token < plan.tokens; ++token) {
    for (std::int64_t j = 0; j < plan.top_k; ++j, ++choice) {
      const std::int64_t slot = counts[static_cast<std::size_t>(indices[choice])]++;
      token_of_slot[static_cast<std::size_t>(slot)] = static_cast<std::int32_t>(token);
      choice_of_slot[static_cast<std::size_t>(slot)] = static_cast<std::int32_t>(choice);
      slot_of_choice[choice] = static_cast<std::int32_t>(slot);
    }
  }
  cursors_to_counts(counts);
}

void plan_receive(std::span<const std::int64_t> rank_major_counts, int ranks, Arena& arena,
                  ExchangePlan& plan) {
  WITAN_CHECK(ranks > 0 && rank_major_counts.size() % static_cast<std::size_t>(ranks) == 0,
              "counts of ", rank_major_counts.size(), " experts do not divide over ", ranks,
              " ranks");
  const std::size_t local_experts = rank_major_counts.size() / static_cast<std::size_t>(ranks);
  plan.recv_counts.assign(static_cast<std::size_t>(ranks), 0);
  plan.expert_offsets.assign(local_experts + 1, 0);
  plan.received = 0;
  for (std::size_t i = 0; i < rank_major_counts.size(); ++i) {
    const std::int64_t rows = rank_major_counts[i];
    WITAN_CHECK(rows >= 0, "a negative row count arrived: ", rows);
    plan.recv_counts[i / local_experts] += rows;
    plan.expert_offsets[i % local_experts] += rows;
    plan.received += rows;
  }
  WITAN_CHECK(plan.received <= kMaxRows, plan.received, " rows for the experts of one rank exceed ",
              "what 32-bit row indices can address; use smaller micro-batches");

  plan.arrival_of_row = arena.allocate({plan.received}, DType::kInt32, kLabel);
  const auto arrival_of_row = indices_of(plan.arrival_of_row);
  const std::span<std::int64_t> cursors(plan.expert_offsets.data(), local_experts);
  counts_to_cursors(cursors);
  std::int32_t arrival = 0;
  for (std::size_t i = 0; i < rank_major_counts.size(); ++i) {
    std::int64_t& cursor = cursors[i % local_experts];
    for (std::int64_t row = 0; row < rank_major_counts[i]; ++row)
      arrival_of_row[static_cast<std::size_t>(cursor++)] = arrival++;
  }
  // Every cursor stands at the end of its expert, which is where the next one begins.
  for (std::size_t expert = local_experts; expert > 0; --expert)
    plan.expert_offsets[expert] = plan.expert_offsets[expert - 1];
  plan.expert_offsets[0] = 0;
}

}  // namespace witan
