// Exchange plans on CUDA: every list is a stable counting sort (stable_counting.h) of choices, or
// of slots that arrived. Traffic is the items twice, each list once, and 8 bytes for each column of
// each tile.
#include "core/ops/cuda/exchange_plan.h"

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/cuda/stable_counting.h"
#include "core/ops/topk.h"
#include "core/tensor/transfer.h"

namespace witan::ops::cuda {
namespace {

// Lists that begin with nothing: [1] = 0.
void no_entries(const Context& ctx, const TensorView& begin) {
  std::int32_t zero = 0;
  transfer(ctx, view_of(&zero, {1}), begin);
}

struct Choices {
  const std::int32_t* expert;  // [n]
  std::int64_t n, top_k;
};

// Columns: each expert, then all choices.
struct LocalItems {
  static constexpr int kKeys = 2;
  Choices choices;
  std::int64_t experts, places;
  const std::int32_t* totals;
  const std::int32_t* begins;
  std::int32_t* row_of_slot;
  std::int32_t* slots_of_row_begin;
  std::int32_t* slots_of_row;
  std::int32_t* choice_of_slot;

  __device__ Keys keys(std::int64_t i, bool is_item) const {
    const std::int32_t expert = choices.expert[i];
    const bool chosen = is_item && expert != kNoChoice;
    return {{chosen ? expert : 0, static_cast<std::int32_t>(experts), 0, 0},
            {chosen, chosen, false, false}};
  }
  __device__ void place(std::int64_t i, const std::int32_t (&before)[kKeys]) const {
    const std::int32_t expert = choices.expert[i];
    const std::int64_t listed = before[1];
    const std::int64_t all = totals[experts];
    if (i % choices.top_k == 0) {
      slots_of_row_begin[i / choices.top_k] = static_cast<std::int32_t>(listed);
    }
    if (i == choices.n - 1) {
      slots_of_row_begin[choices.n / choices.top_k] = static_cast<std::int32_t>(all);
    }
    if (expert == kNoChoice) {
      slots_of_row[all + i - listed] = kNoChoice;
      choice_of_slot[all + i - listed] = kNoChoice;
      return;
    }
    const std::int64_t first = places > 0 ? expert * places : begins[expert];
    row_of_slot[first + before[0]] = static_cast<std::int32_t>(i / choices.top_k);
    slots_of_row[listed] = static_cast<std::int32_t>(first + before[0]);
    choice_of_slot[listed] = static_cast<std::int32_t>(i);
  }
};

// How many slots of padding come before slot `place` of an expert, over all experts in order.
__device__ std::int64_t gaps_before(std::int64_t expert, std::int64_t place, std::int64_t places,
                                    const std::int32_t* totals, const std::int32_t* begins) {
  return expert * places - begins[expert] + place - totals[expert];
}

__global__ void pad_local_kernel(const std::int32_t* totals, const std::int32_t* begins,
                                 std::int64_t slots, std::int64_t places, std::int64_t tokens,
                                 std::int32_t* row_of_slot) {
  for (std::int64_t slot = first_index(); slot < slots; slot += index_stride()) {
    const std::int64_t expert = slot / places;
    const std::int64_t place = slot % places;
    if (place < totals[expert]) continue;
    row_of_slot[slot] =
        static_cast<std::int32_t>(gaps_before(expert, place, places, totals, begins) % tokens);
  }
}

// Columns, with R ranks: slots for each rank [0, R), rows for each rank [R, 2 R), all rows 2 R,
// slots of each expert from 2 R + 1 on.
struct SendItems {
  static constexpr int kKeys = 4;
  Choices choices;
  std::int64_t ranks;
  std::int32_t local_experts;
  std::int64_t places;
  bool row_per_choice;
  const std::int32_t* totals;
  const std::int32_t* begins;
  std::int32_t* token_of_row;
  std::int32_t* choice_of_slot;
  std::int32_t* codes;
  std::int32_t* rows_of_token_begin;
  std::int32_t* rows_of_token;

  // The rank of a choice; -1: it is none.
  __device__ std::int64_t rank_of(std::int64_t i) const {
    const std::int32_t expert = choices.expert[i];
    return expert == kNoChoice ? -1 : expert / local_experts;
  }
  // Whether a row begins with choice i of the token whose choices begin at `first`.
  __device__ bool begins_row(std::int64_t first, std::int64_t i) const {
    const std::int64_t rank = rank_of(i);
    if (rank < 0 || row_per_choice) return rank >= 0;
    for (std::int64_t earlier = first; earlier < i; ++earlier) {
      if (rank_of(earlier) == rank) return false;
    }
    return true;
  }
  __device__ Keys keys(std::int64_t i, bool is_item) const {
    const std::int64_t rank = rank_of(i);
    const bool chosen = is_item && rank >= 0;
    const bool row = is_item && begins_row(i - i % choices.top_k, i);
    const std::int64_t here = chosen ? rank : 0;
    const std::int64_t expert = chosen ? choices.expert[i] : 0;
    return {
        {static_cast<std::int32_t>(here), static_cast<std::int32_t>(ranks + here),
         static_cast<std::int32_t>(2 * ranks), static_cast<std::int32_t>(2 * ranks + 1 + expert)},
        {chosen, row, row, chosen}};
  }
  // Where row `row` of the token whose choices begin at `first` stands in its list: a token's rows
  // of several ranks ascend with the rank.
  __device__ std::int64_t place_in_list(std::int64_t first, std::int64_t i,
                                        std::int64_t rows_before) const {
    if (row_per_choice) return rows_before;
    std::int64_t place = rows_before;
    for (std::int64_t other = first; other < first + choices.top_k; ++other) {
      if (other == i || !begins_row(first, other)) continue;
      const bool smaller = rank_of(other) < rank_of(i);
      place += (smaller ? 1 : 0) - (other < i ? 1 : 0);
    }
    return place;
  }
  __device__ void place(std::int64_t i, const std::int32_t (&before)[kKeys]) const {
    const std::int64_t token = i / choices.top_k;
    const std::int64_t first = token * choices.top_k;
    if (i == first) rows_of_token_begin[token] = before[2];
    if (i == choices.n - 1) rows_of_token_begin[token + 1] = totals[2 * ranks];
    const std::int64_t rank = rank_of(i);
    if (rank < 0) return;
    const bool padded = places > 0;
    const std::int64_t padded_begin = rank * local_experts * places;
    const std::int64_t slot = (padded ? padded_begin : begins[rank]) + before[0];
    const bool starts = begins_row(first, i);
    choice_of_slot[slot] = static_cast<std::int32_t>(i);
    codes[slot] =
        static_cast<std::int32_t>(2 * (choices.expert[i] % local_experts) + (starts ? 1 : 0));
    if (!starts) return;
    const std::int64_t row = (padded ? padded_begin : begins[ranks + rank]) + before[1];
    token_of_row[row] = static_cast<std::int32_t>(token);
    rows_of_token[place_in_list(first, i, before[2])] = static_cast<std::int32_t>(row);
  }
};

// Slots of padding, each with a row of its own, behind the others of their rank.
__global__ void pad_send_kernel(SendItems items, std::int64_t experts, std::int64_t tokens) {
  const std::int64_t places = items.places;
  const std::int32_t* totals = items.totals + 2 * items.ranks + 1;
  const std::int32_t* begins = items.begins + 2 * items.ranks + 1;
  for (std::int64_t i = first_index(); i < experts * places; i += index_stride()) {
    const std::int64_t expert = i / places;
    const std::int64_t place = i % places;
    if (place < totals[expert]) continue;
    const std::int64_t rank = expert / items.local_experts;
    const std::int64_t first_expert = rank * items.local_experts;
    const std::int64_t gap = gaps_before(expert, place, places, totals, begins);
    const std::int64_t gap_of_rank = first_expert * places - begins[first_expert];
    const std::int64_t slot = first_expert * places + items.totals[rank] + gap - gap_of_rank;
    items.token_of_row[slot] = static_cast<std::int32_t>(gap % tokens);
    items.choice_of_slot[slot] = kNoChoice;
    items.codes[slot] = static_cast<std::int32_t>(2 * (expert % items.local_experts) + 1);
  }
}

// counts [ranks, 1 + local experts]
__global__ void send_counts_kernel(const std::int32_t* totals, std::int64_t ranks,
                                   std::int64_t local_experts, std::int64_t places,
                                   std::int32_t* counts) {
  const std::int64_t width = 1 + local_experts;
  for (std::int64_t i = first_index(); i < ranks * width; i += index_stride()) {
    const std::int64_t rank = i / width;
    const std::int64_t column = i % width;
    if (column == 0) {
      counts[i] =
          places > 0 ? static_cast<std::int32_t>(local_experts * places) : totals[ranks + rank];
    } else {
      counts[i] = places > 0 ? static_cast<std::int32_t>(places)
                             : totals[2 * ranks + 1 + rank * local_experts + column - 1];
    }
  }
}

// Columns: each expert of this rank, then all rows.
struct ReceiveItems {
  static constexpr int kKeys = 2;
  const std::int32_t* codes;  // [n]
  std::int64_t n, local_experts;
  std::int64_t own_begin, own_rows, tokens;
  const std::int32_t* token_of_own_row;
  const std::int32_t* totals;
  const std::int32_t* begins;
  std::int32_t* row_of_slot;
  std::int32_t* source_of_slot;
  std::int32_t* slots_of_row_begin;
  std::int32_t* slots_of_row;

  __device__ Keys keys(std::int64_t i, bool is_item) const {
    return {{codes[i] >> 1, static_cast<std::int32_t>(local_experts), 0, 0},
            {is_item, is_item && (codes[i] & 1) != 0, false, false}};
  }
  // The rows of the others lie behind this rank's own tokens.
  __device__ std::int64_t source_of(std::int64_t row) const {
    if (row < own_begin) return tokens + row;
    if (row >= own_begin + own_rows) return tokens + row - own_rows;
    return token_of_own_row[row - own_begin];
  }
  __device__ void place(std::int64_t i, const std::int32_t (&before)[kKeys]) const {
    const bool starts = (codes[i] & 1) != 0;
    const std::int64_t row = before[1] - (starts ? 0 : 1);
    const std::int64_t slot = begins[codes[i] >> 1] + before[0];
    row_of_slot[slot] = static_cast<std::int32_t>(row);
    source_of_slot[slot] = static_cast<std::int32_t>(source_of(row));
    slots_of_row[i] = static_cast<std::int32_t>(slot);
    if (starts) slots_of_row_begin[row] = static_cast<std::int32_t>(i);
    if (i == n - 1) slots_of_row_begin[totals[local_experts]] = static_cast<std::int32_t>(n);
  }
};

Choices choices_of(const TensorView& indices) {
  return {indices.as<std::int32_t>(), indices.size(), indices.cols()};
}

}  // namespace

void plan_local(const Context& ctx, const TensorView& indices, std::int64_t experts,
                std::int64_t places, const LocalPlanLists& lists) {
  const Choices choices = choices_of(indices);
  const Counting c(ctx, choices.n, experts + 1);
  const LocalItems items{choices,
                         experts,
                         places,
                         c.totals,
                         c.begins,
                         lists.row_of_slot.as<std::int32_t>(),
                         lists.slots_of_row_begin.as<std::int32_t>(),
                         lists.slots_of_row.as<std::int32_t>(),
                         lists.choice_of_sent_slot.as<std::int32_t>()};
  count(ctx, items, c);
  if (!lists.counts.empty()) {
    copy(ctx, {c.totals, {experts + 1}, DType::kInt32, ctx.device}, lists.counts);
  }
  if (choices.n == 0) return no_entries(ctx, lists.slots_of_row_begin);
  scan_columns(ctx, c, 0, 1, experts);
  place(ctx, items, c);
  if (places == 0) return;
  launch(pad_local_kernel, flat_grid(experts * places), dim3(kFlatThreads), 0, ctx.stream, c.totals,
         c.begins, experts * places, places, indices.rows(), items.row_of_slot);
}

void plan_send(const Context& ctx, const TensorView& indices, std::int64_t experts,
               std::int64_t ranks, bool row_per_choice, std::int64_t places,
               const SendPlanLists& lists) {
  const auto local_experts = static_cast<std::int32_t>(experts / ranks);
  const Choices choices = choices_of(indices);
  const Counting c(ctx, choices.n, 2 * ranks + 1 + experts);
  const SendItems items{choices,
                        ranks,
                        local_experts,
                        places,
                        row_per_choice,
                        c.totals,
                        c.begins,
                        lists.token_of_sent_row.as<std::int32_t>(),
                        lists.choice_of_sent_slot.as<std::int32_t>(),
                        lists.codes.as<std::int32_t>(),
                        lists.sent_rows_of_token_begin.as<std::int32_t>(),
                        lists.sent_rows_of_token.as<std::int32_t>()};
  count(ctx, items, c);
  if (!lists.counts.empty()) {
    launch(send_counts_kernel, flat_grid(lists.counts.size()), dim3(kFlatThreads), 0, ctx.stream,
           c.totals, ranks, std::int64_t{local_experts}, places, lists.counts.as<std::int32_t>());
  }
  if (choices.n == 0) return no_entries(ctx, lists.sent_rows_of_token_begin);
  scan_columns(ctx, c, 0, 2, ranks);
  scan_columns(ctx, c, 2 * ranks + 1, 1, experts);
  place(ctx, items, c);
  if (places == 0) return;
  launch(pad_send_kernel, flat_grid(experts * places), dim3(kFlatThreads), 0, ctx.stream, items,
         experts, indices.rows());
}

void plan_receive(const Context& ctx, const TensorView& codes, std::int64_t local_experts,
                  const OwnRows& own, const ReceivePlanLists& lists) {
  const std::int64_t n = codes.size();
  if (n == 0) return no_entries(ctx, lists.slots_of_row_begin);
  const Counting c(ctx, n, local_experts + 1);
  const ReceiveItems items{codes.as<std::int32_t>(),
                           n,
                           local_experts,
                           own.begin,
                           own.tokens_of_rows.size(),
                           own.tokens,
                           own.tokens_of_rows.as<std::int32_t>(),
                           c.totals,
                           c.begins,
                           lists.row_of_slot.as<std::int32_t>(),
                           lists.source_of_slot.as<std::int32_t>(),
                           lists.slots_of_row_begin.as<std::int32_t>(),
                           lists.slots_of_row.as<std::int32_t>()};
  count(ctx, items, c);
  scan_columns(ctx, c, 0, 1, local_experts);
  place(ctx, items, c);
}

}  // namespace witan::ops::cuda
