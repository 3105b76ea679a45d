// What the forward and the backward of attention share: packing into tiles, and which keys a group
// of queries sees. For kernel files only.
#pragma once

#include "core/ops/cpu/attention_kernels.h"
#include "core/ops/cpu/tile_product.h"

namespace witan::cpu::WITAN_ISA {

inline constexpr std::int64_t kTile = kAttentionTile;
inline constexpr std::int64_t kGroup = kProductRows;  // queries that are worked on together

// Cuts a workspace into arrays.
template <class T>
struct Workspace {
  T* next;
  WITAN_INLINE T* take(std::int64_t count) {
    T* taken = next;
    next += count;
    return taken;
  }
};

// to [.., ld] = factor * from, rows count .. padded_count and columns head_dim .. ld zero.
template <class T>
WITAN_INLINE void pack_rows(HeadRows<const T> from, T factor, std::int64_t count,
                            std::int64_t padded_count, std::int64_t head_dim, std::int64_t ld,
                            T* to) {
  for (std::int64_t r = 0; r < padded_count; ++r) {
    const T* row = from.data + r * from.stride;
    const std::int64_t filled = r < count ? head_dim : 0;
    for (std::int64_t c = 0; c < filled; ++c) to[r * ld + c] = row[c] * factor;
    for (std::int64_t c = filled; c < ld; ++c) to[r * ld + c] = 0;
  }
}

// Tile after tile [head_dim, kTile] of the transposed rows; columns beyond the last row are zero.
template <class T>
WITAN_INLINE void pack_transposed(HeadRows<const T> from, std::int64_t count, std::int64_t head_dim,
                                  T* to) {
  constexpr std::int64_t kBlock = 16;  // rows read together: a whole cache line is written
  for (std::int64_t first = 0; first < count; first += kTile, to += head_dim * kTile) {
    for (std::int64_t j = 0; j < kTile; j += kBlock) {
      const std::int64_t left = count - first - j;
      const T* rows = from.data + (first + j) * from.stride;
      for (std::int64_t c = 0; c < head_dim; ++c) {
        T* line = to + c * kTile + j;
        if (left >= kBlock) {
          for (std::int64_t r = 0; r < kBlock; ++r) line[r] = rows[r * from.stride + c];
        } else {
          for (std::int64_t r = 0; r < kBlock; ++r) {
            line[r] = r < left ? rows[r * from.stride + c] : T{0};
          }
        }
      }
    }
  }
}

// Keys [begin, end) of a tile.
struct Span {
  std::int64_t begin;
  std::int64_t end;
  WITAN_INLINE bool empty() const { return begin >= end; }
};

// The keys of the tile at `first_of_tile` that the query at `position` sees.
WITAN_INLINE Span visible_keys(std::int64_t position, std::int64_t first_key,
                               std::int64_t first_of_tile) {
  const std::int64_t begin = first_key - first_of_tile;
  const std::int64_t end = position + 1 - first_of_tile;
  return {begin > 0 ? begin : 0, end < kTile ? end : kTile};
}

// The columns worth computing for queries [query, query + count), rounded to whole product columns.
WITAN_INLINE Span group_keys(const std::int32_t* first_key, std::int64_t query, std::int64_t count,
                             std::int64_t offset, std::int64_t first_of_tile) {
  std::int64_t lowest = first_key == nullptr ? 0 : first_key[query];
  for (std::int64_t i = 1; i < count && first_key != nullptr; ++i) {
    lowest = first_key[query + i] < lowest ? first_key[query + i] : lowest;
  }
  Span span = visible_keys(offset + query + count - 1, lowest, first_of_tile);
  if (span.empty()) return {0, 0};
  span.begin = span.begin / kProductColumns * kProductColumns;
  span.end = (span.end + kProductColumns - 1) / kProductColumns * kProductColumns;
  return span;
}

// Scores outside of `visible` become -inf, whose exponential is 0.
template <class T>
WITAN_INLINE void mask_row(T* scores, Span columns, Span visible) {
  const T hidden = -static_cast<T>(__builtin_inff());
  for (std::int64_t j = columns.begin; j < visible.begin; ++j) scores[j] = hidden;
  for (std::int64_t j = visible.end; j < columns.end; ++j) scores[j] = hidden;
}

}  // namespace witan::cpu::WITAN_ISA
