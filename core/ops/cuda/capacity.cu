// Capacity of experts on CUDA. A pair keeps its place if fewer than `each` of its expert come
// before it. By position that is what a stable counting sort (stable_counting.h) finds on its way;
// by value the sort lists the pairs of each expert, and every pair counts who is ahead of it there.
#include "core/ops/cuda/capacity.h"

#include <cstddef>
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/choices.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/cuda/router_functions.h"
#include "core/ops/cuda/row_warps.h"
#include "core/ops/cuda/stable_counting.h"
#include "core/ops/topk.h"

namespace witan::ops::cuda {
namespace {

// best [tokens] = each token's largest score. One warp a token, which reads its row once.
template <class T>
__global__ void best_score_kernel(const T* s, std::int64_t tokens, std::int64_t columns, T* best) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  T largest = -static_cast<T>(INFINITY);
  for (std::int64_t e = threadIdx.x; e < columns; e += kWarpSize) {
    const T score = s[token * columns + e];
    largest = score > largest ? score : largest;
  }
  largest = warp_max(largest);
  if (threadIdx.x == 0) best[token] = largest;
}

// Columns: each expert, or `by_choice` each expert's pairs of first choices, of second ones, ...
template <class T>
struct Pairs {
  static constexpr int kKeys = 1;
  const std::int32_t* chosen;  // [n]
  std::int64_t top_k, experts, places;
  bool by_choice;
  const std::int32_t* totals;
  const std::int32_t* begins;
  // What pairs are ordered by within a column: of each pair, or `by_choice` of each token; null:
  // nothing.
  const T* value;
  T* value_of_slot;            // [n] used, with value
  std::int32_t* pair_of_slot;  // the same
  std::int32_t* kept;          // [n]

  __device__ bool has_places(std::int32_t expert) const {
    return expert != kNoChoice && expert < experts;
  }
  __device__ std::int64_t first_column_of(std::int64_t i) const {
    return by_choice ? chosen[i] * top_k : chosen[i];
  }
  __device__ std::int64_t column_of(std::int64_t i) const {
    return first_column_of(i) + (by_choice ? i % top_k : 0);
  }
  // ahead: of pair i, in its column.
  __device__ void decide(std::int64_t i, std::int64_t ahead) const {
    ahead += begins[column_of(i)] - begins[first_column_of(i)];
    kept[i] = ahead < places ? chosen[i] : kNoChoice;
  }
  __device__ Keys keys(std::int64_t i, bool is_item) const {
    const bool member = is_item && has_places(chosen[i]);
    return {{member ? static_cast<std::int32_t>(column_of(i)) : 0, 0, 0, 0},
            {member, false, false, false}};
  }
  __device__ void place(std::int64_t i, const std::int32_t (&before)[kKeys]) const {
    if (!has_places(chosen[i])) {
      kept[i] = chosen[i];
      return;
    }
    if (value == nullptr) return decide(i, before[0]);
    const std::int64_t slot = begins[column_of(i)] + before[0];
    pair_of_slot[slot] = static_cast<std::int32_t>(i);
    value_of_slot[slot] = rank_of(value[by_choice ? i / top_k : i]);
  }
};

// Every slot is compared with those of its column, the number of tokens at most: neighbours read
// the same values at the same time, out of caches.
template <class T>
__global__ void keep_largest_kernel(Pairs<T> pairs, std::int64_t columns) {
  const std::int64_t slot = first_index();
  if (slot >= pairs.begins[columns - 1] + pairs.totals[columns - 1]) return;
  const std::int64_t pair = pairs.pair_of_slot[slot];
  const std::int64_t column = pairs.column_of(pair);
  const std::int64_t begin = pairs.begins[column];
  const std::int64_t end = begin + pairs.totals[column];
  const T mine = pairs.value_of_slot[slot];
  std::int64_t ahead = 0;
  for (std::int64_t other = begin; other < end && ahead < pairs.places; ++other) {
    const T value = pairs.value_of_slot[other];
    ahead += value > mine || (value == mine && other < slot) ? 1 : 0;
  }
  pairs.decide(pair, ahead);
}

}  // namespace

void keep_places(const Context& ctx, const ExpertPlaces& places, const TensorView& chosen,
                 const TensorView& weights, const TensorView& s, const TensorView& kept) {
  const std::int64_t n = chosen.size();
  const std::int64_t tokens = chosen.rows();
  if (n == 0) return;
  const bool by_choice =
      places.priority == Priority::kChoiceMajor || places.priority == Priority::kBestScore;
  const bool by_value =
      places.priority == Priority::kWeight || places.priority == Priority::kBestScore;
  const std::int64_t columns = places.experts * (by_choice ? chosen.cols() : 1);
  dispatch_float(s.dtype, "keep_places", [&](auto zero) {
    using T = decltype(zero);
    const std::size_t values = by_value ? static_cast<std::size_t>(n + tokens) * sizeof(T) : 0;
    const std::size_t slots = by_value ? static_cast<std::size_t>(n) * sizeof(std::int32_t) : 0;
    const Counting c(ctx, n, columns, values + slots);
    T* const value_of_slot = reinterpret_cast<T*>(c.rest);
    T* const best = value_of_slot + n;
    const T* value = nullptr;
    if (places.priority == Priority::kWeight) value = weights.as<T>();
    if (places.priority == Priority::kBestScore) {
      launch(best_score_kernel<T>, warp_grid(tokens), warp_block(), 0, ctx.stream, s.as<T>(),
             tokens, s.cols(), best);
      value = best;
    }
    const Pairs<T> pairs{chosen.as<std::int32_t>(),
                         chosen.cols(),
                         places.experts,
                         places.each,
                         by_choice,
                         c.totals,
                         c.begins,
                         value,
                         value_of_slot,
                         reinterpret_cast<std::int32_t*>(c.rest + values),
                         kept.as<std::int32_t>()};
    count(ctx, pairs, c);
    scan_columns(ctx, c, 0, 1, columns);
    place(ctx, pairs, c);
    if (!by_value) return;
    launch(keep_largest_kernel<T>, dim3(grid_extent(blocks_of(n, kFlatThreads), kMaxGridX)),
           dim3(kFlatThreads), 0, ctx.stream, pairs, columns);
  });
}

}  // namespace witan::ops::cuda
