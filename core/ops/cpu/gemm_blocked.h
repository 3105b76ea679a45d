// The blocked matrix product behind gemm_kernels.cc and gemm_dot_kernels.cc, over an operand policy
// (gemm_operands.h). For kernel files only.
//
// The blocking of Goto and van de Geijn (2008): a block of A and a block of B are copied into the
// order in which the register tile reads them; the tile's sums stay in registers over a whole block
// of terms. The copy of B's panel is made when its first rows of C are computed, so that with few
// rows (a small expert, decoding) it is used from the L1 cache and never travels.
//
// A policy may pack several terms of the sum into one element: `terms` counts the terms, `depth`
// the packed elements.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "core/ops/cpu/gemm_few_rows.h"
#include "core/ops/cpu/gemm_packing.h"

namespace witan::cpu::WITAN_ISA {
namespace {

// c [kRows, columns] (+)= a b over `terms`, a packed as [depth, kRows], the panel as [depth, kCount
// vectors]. A tile finds its columns of B in the packed panel, if V is void; or in B itself,
// [terms, ldb] of V, whence it fills the panel for the tiles after it.
template <class O, int kRows, int kCount, class V>
void tile(std::int64_t terms, const typename O::Packed* a, const V* b, std::int64_t ldb,
          typename O::Packed* panel, typename O::Value* c, std::int64_t ldc, std::int64_t columns,
          bool accumulate) {
  using T = typename O::Value;
  constexpr bool kCopies = !std::is_void_v<V>;
  constexpr int kWidth = kCount * kLanes<T>;
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kWidth; j += 64 / static_cast<int>(sizeof(T))) {
      __builtin_prefetch(c + r * ldc + j, 1);
    }
  }
  Vec<T> sums[kRows][kCount] = {};
  const std::int64_t depth = depth_of<O>(terms);
  for (std::int64_t p = 0; p < depth; ++p) {
    Vec<T> row[kCount];
#pragma GCC unroll 2
    for (int v = 0; v < kCount; ++v) {
      if constexpr (kCopies) {
        const V* from = b + v * kLanes<T>;
        row[v] = O::lines(from, terms_at<O>(p, terms) > 1 ? from + ldb : nullptr, Full{});
        __builtin_prefetch(from + kWidth);  // the next panel
        store(panel + v * kLanes<T>, row[v]);
      } else {
        row[v] = load(panel + v * kLanes<T>);
      }
    }
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kCount; ++v) sums[r][v] = O::multiply_add(sums[r][v], a[r], row[v]);
    }
    a += kRows;
    if constexpr (kCopies) b += O::kTerms * ldb;
    panel += kWidth;
  }
  store_tile<T, kRows, kCount>(sums, c, ldc, columns, accumulate);
}

// to [depth, kRows] = rows of a that lie transposed in memory, [terms, lda].
template <class O, int kRows, class V>
void pack_transposed_rows(const V* a, std::int64_t lda, std::int64_t terms,
                          typename O::Packed* to) {
  using T = typename O::Value;
  constexpr int n = kLanes<T>;
  const std::int64_t depth = depth_of<O>(terms);
  for (std::int64_t p = 0; p < depth; ++p) {
    const V* from = a + p * O::kTerms * lda;
    if constexpr (std::is_same_v<O, Plain<T>>) {
      std::memcpy(to + p * kRows, from, kRows * sizeof(T));
      continue;
    }
    const V* next = terms_at<O>(p, terms) > 1 ? from + lda : nullptr;
    for (int r = 0; r < kRows; r += n) {
      const Part part{kRows - r < n ? kRows - r : n};
      const V* below = next == nullptr ? nullptr : next + r;
      if (part.count == n) {
        store(to + p * kRows + r, O::lines(from + r, below, Full{}));
      } else {
        store(to + p * kRows + r, O::lines(from + r, below, part), part);
      }
    }
  }
}

// The functions for 1 .. kTileRows rows.
template <class O>
struct Tiles {
  decltype(&tile<O, 1, 1, void>) narrow[kTileRows];  // at most one vector of columns
  decltype(&tile<O, 1, 1, void>) wide[kTileRows];
};
template <class O, int... kIndex>
constexpr Tiles<O> make_tiles(std::integer_sequence<int, kIndex...>) {
  return {{tile<O, kIndex + 1, 1, void>...}, {tile<O, kIndex + 1, kVectors, void>...}};
}
template <class O>
constexpr Tiles<O> kTiles = make_tiles<O>(std::make_integer_sequence<int, kTileRows>{});

// Those that read an operand of V in memory.
template <class O, class V>
struct Readers {
  decltype(&tile<O, 1, 1, V>) copying[kTileRows];  // wide tiles, filling the panel
  decltype(&pack_transposed_rows<O, 1, V>) pack_transposed[kTileRows];
};
template <class O, class V, int... kIndex>
constexpr Readers<O, V> make_readers(std::integer_sequence<int, kIndex...>) {
  return {{tile<O, kIndex + 1, kVectors, V>...}, {pack_transposed_rows<O, kIndex + 1, V>...}};
}
template <class O, class V>
constexpr Readers<O, V> kReaders = make_readers<O, V>(std::make_integer_sequence<int, kTileRows>{});

// A [rows, terms] from row `row` and term `term`: tile after tile, each as [depth, rows of the
// tile]. Where A lies transposed, a few terms of all tiles at a time: their lines are read whole,
// once.
template <class O, class A, class B>
void pack_a(const GemmTask<typename O::Value, A, B>& task, std::int64_t row, const RowTiles& tiles,
            std::int64_t term, std::int64_t terms, typename O::Packed* to) {
  const std::int64_t step = task.a_transposed ? kBlockTermsStep : terms;
  const std::int64_t depth = depth_of<O>(terms);
  for (std::int64_t p = 0; p < terms; p += step) {
    const std::int64_t count = smaller(step, terms - p);
    for (std::int64_t t = 0; t < tiles.count; ++t) {
      const std::int64_t begin = tiles.begin(t);
      const std::int64_t rows = tiles.begin(t + 1) - begin;
      typename O::Packed* tile_to = to + begin * depth + p / O::kTerms * rows;
      if (task.a_transposed) {
        kReaders<O, A>.pack_transposed[rows - 1](task.a + (term + p) * task.lda + row + begin,
                                                 task.lda, count, tile_to);
      } else {
        pack_rows<O>(task.a + (row + begin) * task.lda + term, task.lda, rows, terms, rows,
                     tile_to);
      }
    }
  }
}

// Columns [column, column + columns) of B as [depth, width], filled up with zeros.
template <class O, class A, class B>
void pack_b(const GemmTask<typename O::Value, A, B>& task, std::int64_t column,
            std::int64_t columns, std::int64_t width, std::int64_t term, std::int64_t terms,
            typename O::Packed* to) {
  using T = typename O::Value;
  const std::int64_t depth = depth_of<O>(terms);
  if (task.b_transposed) {
    const B* from = task.b + column * task.ldb + term;
    if (columns < width) {
      std::memset(to, 0, static_cast<std::size_t>(depth * width) * sizeof(typename O::Packed));
    }
    return pack_rows<O>(from, task.ldb, columns, terms, width, to);
  }
  for (std::int64_t p = 0; p < depth; ++p) {
    const B* from = task.b + (term + p * O::kTerms) * task.ldb + column;
    for (std::int64_t j = 0; j < width; ++j) {
      to[p * width + j] = j < columns ? O::one(from + j, task.ldb, terms_at<O>(p, terms)) : T{0};
    }
  }
}

// c [rows, one tile's columns] = the tile, by stores that bypass the cache (is_past_cache()).
template <class T>
void move_past_cache(const T* tile, std::int64_t rows, T* c, std::int64_t ldc) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (int j = 0; j < kTileColumns<T>; j += kLanes<T>) {
      store_past_cache(c + r * ldc + j, load(tile + r * kTileColumns<T> + j));
    }
  }
}

// All row tiles of a block against one panel of B, which is filled first if it is new.
template <class O, class A, class B>
void run_panel(const GemmTask<typename O::Value, A, B>& task, const RowTiles& tiles,
               std::int64_t row, std::int64_t column, std::int64_t columns, std::int64_t term,
               std::int64_t terms, const typename O::Packed* packed_a, typename O::Packed* panel,
               bool fill, bool past_cache) {
  using T = typename O::Value;
  const bool narrow = columns <= kLanes<T>;
  const bool copy = fill && !task.b_transposed && columns == kTileColumns<T>;
  if (fill && !copy) {
    pack_b<O>(task, column, columns, narrow ? kLanes<T> : kTileColumns<T>, term, terms, panel);
  }
  const bool accumulate = task.accumulate || term > 0;
  const B* b = task.b_transposed ? nullptr : task.b + term * task.ldb + column;
  alignas(64) T sums[kTileRows * kTileColumns<T>];
  const bool detour = past_cache && columns == kTileColumns<T>;
  for (std::int64_t t = 0; t < tiles.count; ++t) {
    const std::int64_t begin = tiles.begin(t);
    const std::int64_t index = tiles.begin(t + 1) - begin - 1;
    const typename O::Packed* rows = packed_a + begin * depth_of<O>(terms);
    T* c = task.c + (row + begin) * task.ldc + column;
    T* to = detour ? sums : c;
    const std::int64_t ld = detour ? kTileColumns<T> : task.ldc;
    if (copy && t == 0) {
      kReaders<O, B>.copying[index](terms, rows, b, task.ldb, panel, to, ld, columns, accumulate);
    } else {
      const auto run = narrow ? kTiles<O>.narrow[index] : kTiles<O>.wide[index];
      run(terms, rows, nullptr, 0, panel, to, ld, columns, accumulate);
    }
    if (detour) move_past_cache(sums, index + 1, c, task.ldc);
  }
}

template <class O>
constexpr GemmTiling blocked_tiling() {
  return {kTileRows, kTileColumns<typename O::Value>,
          kBlockTerms * (kBlockColumns + kBlockRows) + kSlack};
}

template <class O, class A, class B>
void blocked_gemm(const GemmTask<typename O::Value, A, B>& task, typename O::Value* workspace) {
  using T = typename O::Value;
  if (task.k == 0) {
    for (std::int64_t i = 0; i < task.m && !task.accumulate; ++i) {
      for (std::int64_t j = 0; j < task.n; ++j) task.c[i * task.ldc + j] = 0;
    }
    return;
  }
  T* packed_b = workspace;
  T* packed_a = workspace + kBlockTerms * kBlockColumns;
  const std::int64_t block_terms =
      ceil_div(ceil_div(task.k, ceil_div(task.k, kBlockTerms)), kBlockTermsStep) * kBlockTermsStep;
  if (task.b_transposed && !task.a_transposed) {
    if (task.m <= kSkinnyRows) {
      return skinny<O>(task, block_terms, kBlockRows / kSkinnyRows, packed_a);
    }
    if (swapping_pays<T>(task.m)) return swapped<O>(task, block_terms, packed_b);
  }
  const bool past_cache = is_past_cache(task, block_terms);
  const std::int64_t row_blocks = ceil_div(task.m, kBlockRows);
  for (std::int64_t column = 0; column < task.n; column += kBlockColumns) {
    const std::int64_t column_end = smaller(task.n, column + kBlockColumns);
    for (std::int64_t term = 0; term < task.k; term += block_terms) {
      const std::int64_t terms = smaller(block_terms, task.k - term);
      for (std::int64_t block = 0; block < row_blocks; ++block) {
        const std::int64_t row = task.m * block / row_blocks;
        const std::int64_t rows = task.m * (block + 1) / row_blocks - row;
        const RowTiles tiles{rows, ceil_div(rows, kTileRows)};
        pack_a<O>(task, row, tiles, term, terms, packed_a);
        for (std::int64_t j = column; j < column_end; j += kTileColumns<T>) {
          const std::int64_t columns = smaller(kTileColumns<T>, column_end - j);
          T* panel = row_blocks == 1 ? packed_b : packed_b + (j - column) * depth_of<O>(terms);
          run_panel<O>(task, tiles, row, j, columns, term, terms, packed_a, panel, block == 0,
                       past_cache);
        }
      }
    }
  }
  if (past_cache) _mm_sfence();  // before other threads are told that C is there
}

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
