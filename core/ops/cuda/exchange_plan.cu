// Exchange plans on CUDA. Every list is a stable counting sort: an item (a choice, or a slot that
// arrived) goes behind the earlier items of the same column (an expert, a rank). Items are counted
// in tiles of one block, the counts of a column are scanned over its tiles, and then every item
// finds its place; integers only, and no atomics. Traffic is the items twice, each list once, and
// 8 bytes for each column of each tile.
#include "core/ops/cuda/exchange_plan.h"

#include <cstddef>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/topk.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/transfer.h"

namespace witan::ops::cuda {
namespace {

constexpr int kTile = 256;  // items of a block, one a thread
constexpr int kMostKeys = 4;

// The columns that an item asks for: how many members came before it in each. It may be one itself.
struct Keys {
  std::int32_t column[kMostKeys];
  bool member[kMostKeys];
};

// before[k], total[k]: members of the item's column k that come before it in its tile, and in all
// of the tile.
template <int kKeys>
__device__ void count_in_tile(const Keys& keys, std::int32_t (&before)[kKeys],
                              std::int32_t (&total)[kKeys]) {
  WITAN_SHARED(std::int32_t[kMostKeys * kTile], columns);
  const int self = static_cast<int>(threadIdx.x);
  WITAN_UNROLL
  for (int k = 0; k < kKeys; ++k) {
    columns[k * kTile + self] = keys.member[k] ? keys.column[k] : -1;
    before[k] = total[k] = 0;
  }
  __syncthreads();
  for (int other = 0; other < kTile; ++other) {
    WITAN_UNROLL
    for (int k = 0; k < kKeys; ++k) {
      const std::int32_t same = columns[k * kTile + other] == keys.column[k] ? 1 : 0;
      total[k] += same;
      before[k] += other < self ? same : 0;
    }
  }
}

// counts [columns, tiles]: members of each column in each tile.
template <class Items>
__global__ void plan_count_kernel(Items items, std::int64_t n, std::int64_t columns,
                                  std::int32_t* counts) {
  const std::int64_t item = first_index();
  const Keys keys = items.keys(item < n ? item : n - 1, item < n);
  for (std::int64_t column = threadIdx.x; column < columns; column += kTile) {
    counts[column * gridDim.x + blockIdx.x] = 0;
  }
  std::int32_t before[Items::kKeys];
  std::int32_t total[Items::kKeys];
  count_in_tile<Items::kKeys>(keys, before, total);  // its barrier comes before what follows
  WITAN_UNROLL
  for (int k = 0; k < Items::kKeys; ++k) {
    if (keys.member[k] && before[k] == 0) {
      counts[keys.column[k] * static_cast<std::int64_t>(gridDim.x) + blockIdx.x] = total[k];
    }
  }
}

// counts: scanned over the tiles.
template <class Items>
__global__ void plan_place_kernel(Items items, std::int64_t n, const std::int32_t* counts) {
  const std::int64_t item = first_index();
  const Keys keys = items.keys(item < n ? item : n - 1, item < n);
  std::int32_t before[Items::kKeys];
  std::int32_t total[Items::kKeys];
  count_in_tile<Items::kKeys>(keys, before, total);
  if (item >= n) return;
  WITAN_UNROLL
  for (int k = 0; k < Items::kKeys; ++k) {
    before[k] += counts[keys.column[k] * static_cast<std::int64_t>(gridDim.x) + blockIdx.x];
  }
  items.place(item, before);
}

// Block b: out[b, :] = the sums of what comes before in in[b, :], totals[b] = the sum of all; in,
// out [blocks, n], which may be the same.
__global__ void exclusive_scan_kernel(const std::int32_t* in, std::int64_t n, std::int32_t* out,
                                      std::int32_t* totals) {
  WITAN_SHARED(std::int32_t[kTile], sums);
  const int self = static_cast<int>(threadIdx.x);
  std::int32_t carry = 0;
  for (std::int64_t begin = 0; begin < n; begin += kTile) {
    const std::int64_t i = blockIdx.x * n + begin + self;
    const std::int32_t value = begin + self < n ? in[i] : 0;
    sums[self] = value;
    __syncthreads();
    for (int offset = 1; offset < kTile; offset *= 2) {
      const std::int32_t earlier = self >= offset ? sums[self - offset] : 0;
      __syncthreads();
      sums[self] += earlier;
      __syncthreads();
    }
    if (begin + self < n) out[i] = carry + sums[self] - value;
    carry += sums[kTile - 1];
    __syncthreads();
  }
  if (self == 0) totals[blockIdx.x] = carry;
}

void exclusive_scan(const Context& ctx, const std::int32_t* in, std::int64_t lists, std::int64_t n,
                    std::int32_t* out, std::int32_t* totals) {
  launch(exclusive_scan_kernel, dim3(grid_extent(lists, kMaxGridX)), dim3(kTile), 0, ctx.stream, in,
         n, out, totals);
}

// The memory of one plan's counting, in the scratch of the stream.
struct Counting {
  Counting(const Context& ctx, std::int64_t items, std::int64_t all_columns)
      : n(items), columns(all_columns), tiles(blocks_of(items, kTile)) {
    const std::int64_t words = columns * (tiles + 2) + kLists;
    counts = static_cast<std::int32_t*>(
        witan::cuda::scratch(ctx, static_cast<std::size_t>(words) * sizeof(std::int32_t)));
    totals = counts + columns * tiles;
    begins = totals + columns;
    unused_totals = begins + columns;
  }
  static constexpr std::int64_t kLists = 2;

  std::int64_t n, columns, tiles;
  std::int32_t* counts;         // [columns, tiles]
  std::int32_t* totals;         // [columns] members
  std::int32_t* begins;         // [columns] where each column of a range begins, where asked for
  std::int32_t* unused_totals;  // [kLists]
};

template <class Items>
void count(const Context& ctx, const Items& items, const Counting& c) {
  if (c.n > 0) {
    launch(plan_count_kernel<Items>, dim3(grid_extent(c.tiles, kMaxGridX)), dim3(kTile), 0,
           ctx.stream, items, c.n, c.columns, c.counts);
  }
  exclusive_scan(ctx, c.counts, c.columns, c.tiles, c.counts, c.totals);
}

// begins of `lists` ranges of n columns each, from column `first` on.
void scan_columns(const Context& ctx, const Counting& c, std::int64_t first, std::int64_t lists,
                  std::int64_t n) {
  exclusive_scan(ctx, c.totals + first, lists, n, c.begins + first, c.unused_totals);
}

template <class Items>
void place(const Context& ctx, const Items& items, const Counting& c) {
  launch(plan_place_kernel<Items>, dim3(grid_extent(c.tiles, kMaxGridX)), dim3(kTile), 0,
         ctx.stream, items, c.n, c.counts);
}

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

__global__ void copy_counts_kernel(const std::int32_t* from, std::int64_t n, std::int32_t* to) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) to[i] = from[i];
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
  launch(copy_counts_kernel, flat_grid(experts + 1), dim3(kFlatThreads), 0, ctx.stream, c.totals,
         experts + 1, lists.counts.as<std::int32_t>());
  if (choices.n == 0) return no_entries(ctx, lists.slots_of_row_begin);
  scan_columns(ctx, c, 0, 1, experts);
  place(ctx, items, c);
  if (places == 0) return;
  launch(pad_local_kernel, flat_grid(experts * places), dim3(kFlatThreads), 0, ctx.stream, c.totals,
         c.begins, experts * places, places, indices.rows(), items.row_of_slot);
}

void plan_send(const Context& ctx, const TensorView& indices, std::int64_t experts,
               bool row_per_choice, std::int64_t places, const SendPlanLists& lists) {
  const std::int64_t ranks = lists.counts.rows();
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
  launch(send_counts_kernel, flat_grid(lists.counts.size()), dim3(kFlatThreads), 0, ctx.stream,
         c.totals, ranks, std::int64_t{local_experts}, places, lists.counts.as<std::int32_t>());
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
