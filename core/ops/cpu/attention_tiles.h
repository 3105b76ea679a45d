// What the forward and the backward of attention share: packing into tiles, and which keys a group
// of queries sees. For kernel files only.
#pragma once

#include "core/ops/cpu/attention_kernels.h"
#include "core/ops/cpu/bfloat16.h"
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

// to[c, r] = from[r, c] for `rows` of at most kTile rows, kTile being the stride of `to`.
template <class T>
WITAN_INLINE void transpose_plain(HeadRows<const T> from, std::int64_t rows, std::int64_t head_dim,
                                  T* to) {
  for (std::int64_t c = 0; c < head_dim; ++c) {
    for (std::int64_t r = 0; r < rows; ++r) to[c * kTile + r] = from.data[r * from.stride + c];
  }
}

// The same for 4 rows, 4 columns at a time.
WITAN_INLINE void transpose_four(HeadRows<const float> from, std::int64_t head_dim, float* to) {
  std::int64_t c = 0;
  for (; c + 4 <= head_dim; c += 4) {
    FourFloats row[4];
    for (int r = 0; r < 4; ++r) {
      __builtin_memcpy(&row[r], from.data + r * from.stride + c, sizeof(FourFloats));
    }
    const FourFloats low02 = __builtin_shufflevector(row[0], row[2], 0, 4, 1, 5);
    const FourFloats low13 = __builtin_shufflevector(row[1], row[3], 0, 4, 1, 5);
    const FourFloats high02 = __builtin_shufflevector(row[0], row[2], 2, 6, 3, 7);
    const FourFloats high13 = __builtin_shufflevector(row[1], row[3], 2, 6, 3, 7);
    const FourFloats column[4] = {__builtin_shufflevector(low02, low13, 0, 4, 1, 5),
                                  __builtin_shufflevector(low02, low13, 2, 6, 3, 7),
                                  __builtin_shufflevector(high02, high13, 0, 4, 1, 5),
                                  __builtin_shufflevector(high02, high13, 2, 6, 3, 7)};
    for (int i = 0; i < 4; ++i) {
      __builtin_memcpy(to + (c + i) * kTile, &column[i], sizeof(FourFloats));
    }
  }
  transpose_plain<float>({from.data + c, from.stride}, 4, head_dim - c, to + c * kTile);
}
WITAN_INLINE void transpose_four(HeadRows<const double> from, std::int64_t head_dim, double* to) {
  transpose_plain(from, 4, head_dim, to);
}

// Tile after tile [head_dim, kTile] of the transposed rows; columns beyond the last row are zero.
template <class T>
WITAN_INLINE void pack_transposed(HeadRows<const T> from, std::int64_t count, std::int64_t head_dim,
                                  T* to) {
  for (std::int64_t first = 0; first < count; first += kTile, to += head_dim * kTile) {
    const std::int64_t left = count - first;
    const std::int64_t rows = left < kTile ? left : kTile;
    const T* tile = from.data + first * from.stride;
    std::int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      transpose_four({tile + r * from.stride, from.stride}, head_dim, to + r);
    }
    transpose_plain<T>({tile + r * from.stride, from.stride}, rows - r, head_dim, to + r);
    for (std::int64_t c = 0; c < head_dim && rows < kTile; ++c) {
      for (r = rows; r < kTile; ++r) to[c * kTile + r] = 0;
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

// What a bfloat16 unit multiplies.
WITAN_INLINE VecFloat operand(VecFloat x, bool rounded) {
  return rounded ? round_to_bfloat16(x) : x;
}
WITAN_INLINE VecDouble operand(VecDouble x, bool) { return x; }

// Scores outside of `visible` become -inf, whose exponential is 0.
template <class T>
WITAN_INLINE void mask_row(T* scores, Span columns, Span visible) {
  const T hidden = -static_cast<T>(__builtin_inff());
  for (std::int64_t j = columns.begin; j < visible.begin; ++j) scores[j] = hidden;
  for (std::int64_t j = visible.end; j < columns.end; ++j) scores[j] = hidden;
}

}  // namespace witan::cpu::WITAN_ISA
