#include "core/model/exchange_plan.h"

#include <algorithm>
#include <limits>

#include "core/ops/topk.h"
#include "core/tensor/twin.h"

namespace witan {
namespace {

using ops::kNoChoice;

constexpr std::int64_t kMaxRows = std::numeric_limits<std::int32_t>::max();
constexpr const char* kLabel = "exchange plan";

std::span<std::int32_t> allocate_indices(std::int64_t size, Arena& arena, TensorView& view) {
  view = arena.allocate({size}, DType::kInt32, kLabel);
  return {view.as<std::int32_t>(), static_cast<std::size_t>(size)};
}

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Turns counts into where each part begins; returns their sum.
std::int64_t counts_to_begins(std::span<std::int64_t> counts) {
  std::int64_t begin = 0;
  for (std::int64_t& count : counts) {
    const std::int64_t size = count;
    count = begin;
    begin += size;
  }
  return begin;
}

// The inverse, once each begin has moved to the end of its part.
void ends_to_counts(std::span<std::int64_t> ends) {
  std::int64_t begin = 0;
  for (std::int64_t& end : ends) {
    const std::int64_t size = end - begin;
    begin = end;
    end = size;
  }
}

// Every cursor stands at the end of its expert, which is where the next one begins.
void cursors_to_offsets(std::vector<std::int64_t>& offsets) {
  for (std::size_t expert = offsets.size() - 1; expert > 0; --expert) {
    offsets[expert] = offsets[expert - 1];
  }
  offsets[0] = 0;
}

// Walks through the choices of all tokens, past what is no choice: visit(token, choice, destination
// rank, local expert, whether a new row begins).
template <class Visit>
void for_each_choice(std::span<const std::int32_t> indices, const ExchangePlan& plan,
                     std::int64_t local_experts, RowsPer rows_per,
                     std::vector<std::int64_t>& last_token, Visit&& visit) {
  std::fill(last_token.begin(), last_token.end(), -1);
  std::int64_t choice = 0;
  for (std::int64_t token = 0; token < plan.tokens; ++token) {
    for (std::int64_t j = 0; j < plan.top_k; ++j, ++choice) {
      const std::int64_t expert = indices[at(choice)];
      if (expert == kNoChoice) continue;
      const std::int64_t rank = expert / local_experts;
      std::int64_t& last = last_token[at(rank)];
      const bool begins_row = rows_per == RowsPer::kChoice || last != token;
      last = token;
      visit(token, choice, rank, expert % local_experts, begins_row);
    }
  }
}

// visit(expert, slots missing) where fewer than `places` chose an expert. Throws if more did.
template <class Visit>
void for_each_gap(std::span<const std::int64_t> chosen, std::int64_t places, Visit&& visit) {
  for (std::size_t expert = 0; expert < chosen.size(); ++expert) {
    WITAN_CHECK(chosen[expert] <= places, "exchange plan: ", chosen[expert], " slots for expert ",
                expert, ", which is padded to ", places);
    if (chosen[expert] < places) visit(static_cast<std::int64_t>(expert), places - chosen[expert]);
  }
}

// Lists the rows of each token. A token's rows of several ranks ascend with the rank; in the
// per-choice mode they are listed as the choices come.
class RowLists {
 public:
  RowLists(RowsPer rows_per, std::span<std::int32_t> begin, std::span<std::int32_t> rows)
      : sorted_(rows_per == RowsPer::kRank), begin_(begin), rows_(rows) {
    begin_[0] = 0;
  }
  // Tokens ascend.
  void add(std::int64_t token, std::int64_t row) {
    end_tokens_before(token);
    const std::int64_t first = begin_[at(token)];
    std::int64_t place = size_++;
    for (; sorted_ && place > first && rows_[at(place - 1)] > row; --place) {
      rows_[at(place)] = rows_[at(place - 1)];
    }
    rows_[at(place)] = static_cast<std::int32_t>(row);
  }
  void end_tokens_before(std::int64_t token) {
    while (token_ < token) begin_[at(++token_)] = static_cast<std::int32_t>(size_);
  }

 private:
  bool sorted_;
  std::span<std::int32_t> begin_, rows_;
  std::int64_t token_ = 0, size_ = 0;
};

}  // namespace

void begin_plan(const TensorView& indices, ExchangePlan& plan) {
  WITAN_CHECK(indices.shape.rank() == 2 && indices.dtype == DType::kInt32,
              "expert indices: expected [tokens, top_k] int32, found ", indices.shape.to_string(),
              " ", name_of(indices.dtype));
  WITAN_CHECK(indices.size() <= kMaxRows, "tokens * top_k = ", indices.size(),
              " exceeds what 32-bit row indices can address; use smaller micro-batches");
  WITAN_CHECK(indices.shape[1] > 0, "expert indices: no choices, shape ",
              indices.shape.to_string());
  plan.tokens = indices.shape[0];
  plan.top_k = indices.shape[1];
  plan.open = false;
}

void plan_send(std::span<const std::int32_t> indices, std::int64_t experts, int ranks,
               RowsPer rows_per, std::int64_t places, Arena& arena, SlotCodes& codes,
               ExchangePlan& plan) {
  WITAN_CHECK(ranks > 0 && experts % ranks == 0, experts, " experts do not divide over ", ranks,
              " ranks");
  WITAN_CHECK(static_cast<std::int64_t>(indices.size()) == plan.tokens * plan.top_k,
              "expert indices: expected ", plan.tokens * plan.top_k, ", found ", indices.size());
  const bool padded = places > 0 && plan.tokens > 0;  // without tokens there is nothing to send
  WITAN_CHECK(!padded || rows_per == RowsPer::kChoice, "padding needs a row for each choice");
  for (const std::int32_t expert : indices) {
    WITAN_CHECK(expert >= kNoChoice && expert < experts, "expert ", expert, " is not one of the ",
                experts);
  }
  const std::int64_t local_experts = experts / ranks;
  codes.last_token.resize(at(ranks));
  plan.rows_to.assign(at(ranks), 0);
  plan.slots_to.assign(at(ranks), 0);
  codes.chosen.assign(at(experts), 0);
  std::int64_t listed_rows = 0;
  for_each_choice(
      indices, plan, local_experts, rows_per, codes.last_token,
      [&](std::int64_t, std::int64_t, std::int64_t rank, std::int64_t local_expert, bool begins) {
        ++codes.chosen[at(rank * local_experts + local_expert)];
        ++plan.slots_to[at(rank)];
        plan.rows_to[at(rank)] += begins ? 1 : 0;
        listed_rows += begins ? 1 : 0;
      });
  if (padded) {
    for_each_gap(codes.chosen, places, [&](std::int64_t expert, std::int64_t missing) {
      plan.slots_to[at(expert / local_experts)] += missing;
      plan.rows_to[at(expert / local_experts)] += missing;
    });
  }
  const std::int64_t sent_rows = counts_to_begins(plan.rows_to);
  const std::int64_t sent_slots = counts_to_begins(plan.slots_to);

  const auto token_of_row = allocate_indices(sent_rows, arena, plan.token_of_sent_row);
  const auto choice_of_slot = allocate_indices(sent_slots, arena, plan.choice_of_sent_slot);
  const auto begins = allocate_indices(plan.tokens + 1, arena, plan.sent_rows_of_token_begin);
  const auto rows = allocate_indices(listed_rows, arena, plan.sent_rows_of_token);
  RowLists lists(rows_per, begins, rows);
  codes.codes.resize(at(sent_slots));
  for_each_choice(indices, plan, local_experts, rows_per, codes.last_token,
                  [&](std::int64_t token, std::int64_t choice, std::int64_t rank,
                      std::int64_t local_expert, bool begins_row) {
                    if (begins_row) {
                      const std::int64_t row = plan.rows_to[at(rank)]++;
                      token_of_row[at(row)] = static_cast<std::int32_t>(token);
                      lists.add(token, row);
                    }
                    const std::int64_t slot = plan.slots_to[at(rank)]++;
                    choice_of_slot[at(slot)] = static_cast<std::int32_t>(choice);
                    codes.codes[at(slot)] = SlotCode::of(local_expert, begins_row);
                  });
  lists.end_tokens_before(plan.tokens);
  if (padded) {
    std::int64_t token = 0;  // any will do
    for_each_gap(codes.chosen, places, [&](std::int64_t expert, std::int64_t missing) {
      for (; missing > 0; --missing, token = (token + 1) % plan.tokens) {
        token_of_row[at(plan.rows_to[at(expert / local_experts)]++)] =
            static_cast<std::int32_t>(token);
        const std::size_t slot = at(plan.slots_to[at(expert / local_experts)]++);
        choice_of_slot[slot] = kNoChoice;
        codes.codes[slot] = SlotCode::of(expert % local_experts, true);
      }
    });
  }
  ends_to_counts(plan.rows_to);
  ends_to_counts(plan.slots_to);
}

void plan_receive(std::span<const SlotCode> codes, std::int64_t local_experts, Arena& arena,
                  ExchangePlan& plan) {
  plan.rows = 0;
  plan.slots = 0;
  for (std::size_t rank = 0; rank < plan.rows_from.size(); ++rank) {
    plan.rows += plan.rows_from[rank];
    plan.slots += plan.slots_from[rank];
  }
  WITAN_CHECK(static_cast<std::int64_t>(codes.size()) == plan.slots, "exchange plan: expected ",
              plan.slots, " slots, found ", codes.size());
  WITAN_CHECK(plan.slots <= kMaxRows, plan.slots, " rows for the experts of one rank exceed ",
              "what 32-bit row indices can address; use smaller micro-batches");
  plan.expert_offsets.assign(at(local_experts + 1), 0);
  std::int64_t rows = 0;
  for (const SlotCode code : codes) {
    WITAN_CHECK(code.local_expert() >= 0 && code.local_expert() < local_experts,
                "exchange plan: a rank sent a row for local expert ", code.local_expert(), " of ",
                local_experts);
    ++plan.expert_offsets[at(code.local_expert())];
    rows += code.begins_row() ? 1 : 0;
  }
  WITAN_CHECK(rows == plan.rows, "exchange plan: expected ", plan.rows, " rows, found ", rows);

  const auto row_of_slot = allocate_indices(plan.slots, arena, plan.row_of_slot);
  const auto begins = allocate_indices(plan.rows + 1, arena, plan.slots_of_row_begin);
  const auto slots_of_row = allocate_indices(plan.slots, arena, plan.slots_of_row);
  const std::span<std::int64_t> cursors(plan.expert_offsets.data(), at(local_experts));
  counts_to_begins(cursors);
  std::int32_t row = -1;
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(codes.size()); ++i) {
    const SlotCode code = codes[at(i)];
    if (code.begins_row()) begins[at(++row)] = i;
    WITAN_CHECK(row >= 0, "exchange plan: the first slot of a rank begins no row");
    const std::int64_t slot = cursors[at(code.local_expert())]++;
    row_of_slot[at(slot)] = row;
    slots_of_row[at(i)] = static_cast<std::int32_t>(slot);
  }
  begins[at(plan.rows)] = static_cast<std::int32_t>(plan.slots);
  cursors_to_offsets(plan.expert_offsets);
}

void plan_local(std::span<const std::int32_t> indices, std::int64_t experts, std::int64_t places,
                Arena& arena, ExchangePlan& plan) {
  plan.rows = plan.tokens;
  plan.expert_offsets.assign(at(experts + 1), 0);
  plan.slots = 0;
  for (const std::int32_t expert : indices) {
    WITAN_CHECK(expert >= kNoChoice && expert < experts, "expert ", expert, " is not one of the ",
                experts);
    if (expert == kNoChoice) continue;
    ++plan.expert_offsets[at(expert)];
    ++plan.slots;
  }
  const std::int64_t listed = plan.slots;
  const std::span<std::int64_t> cursors(plan.expert_offsets.data(), at(experts));
  const bool padded = places > 0 && plan.tokens > 0;
  if (padded) {
    plan.slots = 0;
    for_each_gap(cursors, places, [](std::int64_t, std::int64_t) {});
    for (std::int64_t& count : cursors) plan.slots += count = places;
  }
  const auto row_of_slot = allocate_indices(plan.slots, arena, plan.row_of_slot);
  const auto begins = allocate_indices(plan.rows + 1, arena, plan.slots_of_row_begin);
  const auto slots_of_row = allocate_indices(listed, arena, plan.slots_of_row);
  const auto choices = allocate_indices(listed, arena, plan.choice_of_sent_slot);
  counts_to_begins(cursors);
  std::int32_t entry = 0;
  std::int32_t choice = 0;
  for (std::int32_t token = 0; token < static_cast<std::int32_t>(plan.tokens); ++token) {
    begins[at(token)] = entry;
    for (std::int64_t j = 0; j < plan.top_k; ++j, ++choice) {
      const std::int32_t expert = indices[at(choice)];
      if (expert == kNoChoice) continue;
      const std::int64_t slot = cursors[at(expert)]++;
      row_of_slot[at(slot)] = token;
      slots_of_row[at(entry)] = static_cast<std::int32_t>(slot);
      choices[at(entry++)] = choice;
    }
  }
  begins[at(plan.rows)] = entry;
  plan.source_of_slot = plan.row_of_slot;
  if (padded) {
    std::int32_t token = 0;
    for (std::int64_t expert = 0; expert < experts; ++expert) {
      for (std::int64_t& slot = cursors[at(expert)]; slot < (expert + 1) * places; ++slot) {
        row_of_slot[at(slot)] = token;
        token = static_cast<std::int32_t>((token + 1) % plan.tokens);
      }
    }
  }
  cursors_to_offsets(plan.expert_offsets);
}

void use_indices_where_they_are(ExchangePlan& plan) {
  plan.here = {plan.source_of_slot,    plan.slots_of_row_begin,  plan.slots_of_row,
               plan.token_of_sent_row, plan.choice_of_sent_slot, plan.sent_rows_of_token_begin,
               plan.sent_rows_of_token};
}

void place_indices(const Context& ctx, Arena& arena, ExchangePlan& plan) {
  use_indices_where_they_are(plan);
  ExchangePlan::RowIndices& here = plan.here;
  for (TensorView* indices :
       {&here.source_of_slot, &here.slots_of_row_begin, &here.slots_of_row, &here.token_of_sent_row,
        &here.choice_of_sent_slot, &here.sent_rows_of_token_begin, &here.sent_rows_of_token}) {
    *indices = copy_in(ctx, arena, *indices, kLabel);
  }
}

}  // namespace witan
