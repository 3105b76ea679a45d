// Stable counting sorts of items into columns: an item (a choice, or a slot that arrived) goes
// behind the earlier items of the same column (an expert, a rank). Items are counted in tiles of
// one block, the counts of a column are scanned over its tiles, and then every item finds its
// place; integers only, and no atomics.
//
// Items (an argument of the kernels) says of item i:
//   static constexpr int kKeys;               // columns it counts in, at most kMostKeys
//   Keys keys(i, bool is_item) const;         // not is_item: i is any item, and a member of
//   nothing void place(i, const int32 (&before)[kKeys]) const;  // earlier members of its columns
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {

inline constexpr int kTile = 256;  // items of a block, one a thread
inline constexpr int kMostKeys = 4;

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
__global__ void count_items_kernel(Items items, std::int64_t n, std::int64_t columns,
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
__global__ void place_items_kernel(Items items, std::int64_t n, const std::int32_t* counts) {
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

// Block b: out[b, :] = the sums of what comes before in in[b, :], totals[b] = the sum of all, where
// asked for; in, out [blocks, n], which may be the same.
template <class Count>
__global__ void exclusive_scan_kernel(const Count* in, std::int64_t n, Count* out, Count* totals) {
  WITAN_SHARED(Count[kTile], sums);
  const int self = static_cast<int>(threadIdx.x);
  Count carry = 0;
  for (std::int64_t begin = 0; begin < n; begin += kTile) {
    const std::int64_t i = blockIdx.x * n + begin + self;
    const Count value = begin + self < n ? in[i] : 0;
    sums[self] = value;
    __syncthreads();
    for (int offset = 1; offset < kTile; offset *= 2) {
      const Count earlier = self >= offset ? sums[self - offset] : 0;
      __syncthreads();
      sums[self] += earlier;
      __syncthreads();
    }
    if (begin + self < n) out[i] = carry + sums[self] - value;
    carry += sums[kTile - 1];
    __syncthreads();
  }
  if (self == 0 && totals != nullptr) totals[blockIdx.x] = carry;
}

// The memory of one sort, in the scratch of the stream, with `more` bytes for its caller.
struct Counting {
  Counting(const Context& ctx, std::int64_t items, std::int64_t all_columns, std::size_t more = 0)
      : n(items), columns(all_columns), tiles(blocks_of(items, kTile)) {
    const std::size_t words = static_cast<std::size_t>(columns * (tiles + 2));
    constexpr std::size_t kAlignment = 16;
    const std::size_t bytes =
        (words * sizeof(std::int32_t) + kAlignment - 1) / kAlignment * kAlignment;
    auto* memory = static_cast<std::byte*>(witan::cuda::scratch(ctx, bytes + more));
    counts = reinterpret_cast<std::int32_t*>(memory);
    totals = counts + columns * tiles;
    begins = totals + columns;
    rest = memory + bytes;
  }

  std::int64_t n, columns, tiles;
  std::int32_t* counts;  // [columns, tiles]
  std::int32_t* totals;  // [columns] members
  std::int32_t* begins;  // [columns] where each column of a range begins, where asked for
  std::byte* rest;
};

inline void exclusive_scan(const Context& ctx, const std::int32_t* in, std::int64_t lists,
                           std::int64_t n, std::int32_t* out, std::int32_t* totals) {
  launch(exclusive_scan_kernel<std::int32_t>, dim3(grid_extent(lists, kMaxGridX)), dim3(kTile), 0,
         ctx.stream, in, n, out, totals);
}

template <class Items>
void count(const Context& ctx, const Items& items, const Counting& c) {
  if (c.n > 0) {
    launch(count_items_kernel<Items>, dim3(grid_extent(c.tiles, kMaxGridX)), dim3(kTile), 0,
           ctx.stream, items, c.n, c.columns, c.counts);
  }
  exclusive_scan(ctx, c.counts, c.columns, c.tiles, c.counts, c.totals);
}

// begins of `ranges` ranges of n columns each, from column `first` on.
inline void scan_columns(const Context& ctx, const Counting& c, std::int64_t first,
                         std::int64_t ranges, std::int64_t n) {
  exclusive_scan(ctx, c.totals + first, ranges, n, c.begins + first, nullptr);
}

template <class Items>
void place(const Context& ctx, const Items& items, const Counting& c) {
  launch(place_items_kernel<Items>, dim3(grid_extent(c.tiles, kMaxGridX)), dim3(kTile), 0,
         ctx.stream, items, c.n, c.counts);
}

}  // namespace witan::ops::cuda
