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

#include "core/ops/cpu/gemm_kernels.h"
#include "core/ops/cpu/gemm_operands.h"
#include "core/ops/cpu/transpose.h"

namespace witan::cpu::WITAN_ISA {
namespace {

constexpr int kVectors = 2;  // per row of a register tile

template <class T>
constexpr int kTileColumns = kVectors* kLanes<T>;

// As many rows as leave two registers for B and one for an element of A.
#if defined(__AVX512F__)
constexpr int kTileRows = 14;
#elif defined(__AVX2__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 4;
#endif

// The block of terms: the same at every level and for all types, because it decides the order of
// sums.
constexpr std::int64_t kBlockTerms = 384;
constexpr std::int64_t kBlockTermsStep = 16;
constexpr std::int64_t kBlockRows = 168;      // of A: with kBlockTerms, a part of the L2 cache
constexpr std::int64_t kBlockColumns = 1024;  // of B: the rest of it
constexpr std::int64_t kSlack = 64 / sizeof(float);  // pack_rows writes up to a vector too far

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <class O>
constexpr std::int64_t depth_of(std::int64_t terms) {
  return ceil_div(terms, O::kTerms);
}
// The terms of packed element p.
template <class O>
constexpr std::int64_t terms_at(std::int64_t p, std::int64_t terms) {
  return smaller(O::kTerms, terms - p * O::kTerms);
}

// c [kRows, columns] (+)= sums.
template <class T, int kRows, int kCount>
inline void store_tile(const Vec<T> (&sums)[kRows][kCount], T* c, std::int64_t ldc,
                       std::int64_t columns, bool accumulate) {
  constexpr int kWidth = kCount * kLanes<T>;
  if (columns < kWidth) {
    T edge[kRows][kWidth];
    std::memcpy(edge, sums, sizeof(edge));
    for (int r = 0; r < kRows; ++r) {
      for (std::int64_t j = 0; j < columns; ++j) {
        c[r * ldc + j] = accumulate ? c[r * ldc + j] + edge[r][j] : edge[r][j];
      }
    }
    return;
  }
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kCount; ++v) {
      T* to = c + r * ldc + v * kLanes<T>;
      store(to, accumulate ? load(to) + sums[r][v] : sums[r][v]);
    }
  }
}

// Where a tile finds its columns of B: in the packed panel; or in B itself, [terms, ldb], whence it
// fills the panel for the tiles after it.
enum class Panel { kPacked, kCopied };

// c [kRows, columns] (+)= a b over `terms`, a packed as [depth, kRows], the panel as [depth, kCount
// vectors].
template <class O, int kRows, int kCount, Panel kPanel>
void tile(std::int64_t terms, const typename O::Packed* a, const typename O::Value* b,
          std::int64_t ldb, typename O::Packed* panel, typename O::Value* c, std::int64_t ldc,
          std::int64_t columns, bool accumulate) {
  using T = typename O::Value;
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
      if constexpr (kPanel == Panel::kCopied) {
        const T* from = b + v * kLanes<T>;
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
    if constexpr (kPanel == Panel::kCopied) b += O::kTerms * ldb;
    panel += kWidth;
  }
  store_tile<T, kRows, kCount>(sums, c, ldc, columns, accumulate);
}

// to [depth, kRows] = rows of a that lie transposed in memory, [terms, lda].
template <class O, int kRows>
void pack_transposed_rows(const typename O::Value* a, std::int64_t lda, std::int64_t terms,
                          typename O::Packed* to) {
  using T = typename O::Value;
  constexpr int n = kLanes<T>;
  const std::int64_t depth = depth_of<O>(terms);
  for (std::int64_t p = 0; p < depth; ++p) {
    const T* from = a + p * O::kTerms * lda;
    if constexpr (std::is_same_v<O, Plain<T>>) {
      std::memcpy(to + p * kRows, from, kRows * sizeof(T));
      continue;
    }
    const T* next = terms_at<O>(p, terms) > 1 ? from + lda : nullptr;
    for (int r = 0; r < kRows; r += n) {
      const Part part{kRows - r < n ? kRows - r : n};
      const T* below = next == nullptr ? nullptr : next + r;
      if (part.count == n) {
        store(to + p * kRows + r, O::lines(from + r, below, Full{}));
      } else {
        store(to + p * kRows + r, O::lines(from + r, below, part), part);
      }
    }
  }
}

// to [depth, stride], columns 0 .. rows - 1 = the transpose of from [rows, ld]; the columns after
// them, up to whole vectors, are written too and belong to the slots filled next.
template <class O>
void pack_rows(const typename O::Value* from, std::int64_t ld, std::int64_t rows,
               std::int64_t terms, std::int64_t stride, typename O::Packed* to) {
  using T = typename O::Value;
  constexpr std::int64_t n = kLanes<T>;
  const std::int64_t whole = terms / (n * O::kTerms) * n;
  // The last group first: what it writes too far lies in the next line of the first group.
  for (std::int64_t group = ceil_div(rows, n) - 1; group >= 0; --group) {
    const T* first = from + group * n * ld;
    const std::int64_t count = smaller(n, rows - group * n);
    // Lanes without a row of their own repeat the last one: nobody reads them.
    const T* source[n];
    for (std::int64_t r = 0; r < n; ++r) source[r] = first + smaller(r, count - 1) * ld;
    for (std::int64_t p = 0; p < whole; p += n) {
      Vec<T> square[n];
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) square[r] = O::row(source[r] + p * O::kTerms);
      transpose<T>(square);
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) store(to + (p + r) * stride + group * n, square[r]);
    }
  }
  for (std::int64_t p = whole; p < depth_of<O>(terms); ++p) {
    for (std::int64_t r = 0; r < rows; ++r) {
      to[p * stride + r] = O::one(from + r * ld + p * O::kTerms, 1, terms_at<O>(p, terms));
    }
  }
}

// The functions for 1 .. kTileRows rows.
template <class O>
struct Tiles {
  decltype(&tile<O, 1, 1, Panel::kPacked>) narrow[kTileRows];  // at most one vector of columns
  decltype(&tile<O, 1, 1, Panel::kPacked>) wide[kTileRows];
  decltype(&tile<O, 1, 1, Panel::kPacked>) copying[kTileRows];  // wide, filling the panel
  decltype(&pack_transposed_rows<O, 1>) pack_transposed[kTileRows];
};
template <class O, int... kIndex>
constexpr Tiles<O> make_tiles(std::integer_sequence<int, kIndex...>) {
  return {{tile<O, kIndex + 1, 1, Panel::kPacked>...},
          {tile<O, kIndex + 1, kVectors, Panel::kPacked>...},
          {tile<O, kIndex + 1, kVectors, Panel::kCopied>...},
          {pack_transposed_rows<O, kIndex + 1>...}};
}
template <class O>
constexpr Tiles<O> kTiles = make_tiles<O>(std::make_integer_sequence<int, kTileRows>{});

// Rows of a block of A, cut into register tiles of nearly equal height.
struct RowTiles {
  std::int64_t rows;
  std::int64_t count;
  std::int64_t begin(std::int64_t tile) const { return rows * tile / count; }
};

// A [rows, terms] from row `row` and term `term`: tile after tile, each as [depth, rows of the
// tile]. Where A lies transposed, a few terms of all tiles at a time: their lines are read whole,
// once.
template <class O>
void pack_a(const GemmTask<typename O::Value>& task, std::int64_t row, const RowTiles& tiles,
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
        kTiles<O>.pack_transposed[rows - 1](task.a + (term + p) * task.lda + row + begin, task.lda,
                                            count, tile_to);
      } else {
        pack_rows<O>(task.a + (row + begin) * task.lda + term, task.lda, rows, terms, rows,
                     tile_to);
      }
    }
  }
}

// Columns [column, column + columns) of B as [depth, width], filled up with zeros.
template <class O>
void pack_b(const GemmTask<typename O::Value>& task, std::int64_t column, std::int64_t columns,
            std::int64_t width, std::int64_t term, std::int64_t terms, typename O::Packed* to) {
  using T = typename O::Value;
  const std::int64_t depth = depth_of<O>(terms);
  if (task.b_transposed) {
    const T* from = task.b + column * task.ldb + term;
    if (columns < width) {
      std::memset(to, 0, static_cast<std::size_t>(depth * width) * sizeof(typename O::Packed));
    }
    return pack_rows<O>(from, task.ldb, columns, terms, width, to);
  }
  for (std::int64_t p = 0; p < depth; ++p) {
    const T* from = task.b + (term + p * O::kTerms) * task.ldb + column;
    for (std::int64_t j = 0; j < width; ++j) {
      to[p * width + j] = j < columns ? O::one(from + j, task.ldb, terms_at<O>(p, terms)) : T{0};
    }
  }
}

// All row tiles of a block against one panel of B, which is filled first if it is new.
template <class O>
void run_panel(const GemmTask<typename O::Value>& task, const RowTiles& tiles, std::int64_t row,
               std::int64_t column, std::int64_t columns, std::int64_t term, std::int64_t terms,
               const typename O::Packed* packed_a, typename O::Packed* panel, bool fill) {
  using T = typename O::Value;
  const bool narrow = columns <= kLanes<T>;
  const bool copy = fill && !task.b_transposed && columns == kTileColumns<T>;
  if (fill && !copy) {
    pack_b<O>(task, column, columns, narrow ? kLanes<T> : kTileColumns<T>, term, terms, panel);
  }
  const bool accumulate = task.accumulate || term > 0;
  const T* b = task.b_transposed ? nullptr : task.b + term * task.ldb + column;
  for (std::int64_t t = 0; t < tiles.count; ++t) {
    const std::int64_t begin = tiles.begin(t);
    const std::int64_t index = tiles.begin(t + 1) - begin - 1;
    const auto run = copy && t == 0 ? kTiles<O>.copying[index]
                     : narrow       ? kTiles<O>.narrow[index]
                                    : kTiles<O>.wide[index];
    run(terms, packed_a + begin * depth_of<O>(terms), b, task.ldb, panel,
        task.c + (row + begin) * task.ldc + column, task.ldc, columns, accumulate);
  }
}

// c [kRows, columns] (+)= a b over `terms` for a few rows, a packed as [depth, kRows], b transposed
// and at most one vector of columns wide: its squares are transposed in registers and used once,
// without a detour through memory.
template <class O, int kRows>
void skinny_tile(std::int64_t terms, const typename O::Packed* a, const typename O::Value* b,
                 std::int64_t ldb, typename O::Value* c, std::int64_t ldc, std::int64_t columns,
                 bool accumulate) {
  using T = typename O::Value;
  constexpr std::int64_t n = kLanes<T>;
  const T* source[n];
  for (std::int64_t j = 0; j < n; ++j) source[j] = b + smaller(j, columns - 1) * ldb;
  Vec<T> sums[kRows][1] = {};
  const std::int64_t whole = terms / (n * O::kTerms) * n;
  std::int64_t p = 0;
  for (; p < whole; p += n) {
    Vec<T> square[n];
#pragma GCC unroll 16
    for (int j = 0; j < n; ++j) square[j] = O::row(source[j] + p * O::kTerms);
    transpose<T>(square);
#pragma GCC unroll 16
    for (int l = 0; l < n; ++l) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sums[r][0] = O::multiply_add(sums[r][0], a[(p + l) * kRows + r], square[l]);
      }
    }
  }
  for (; p < depth_of<O>(terms); ++p) {
    T line[n];
    for (int j = 0; j < n; ++j) {
      line[j] = O::one(source[j] + p * O::kTerms, 1, terms_at<O>(p, terms));
    }
    for (int r = 0; r < kRows; ++r) {
      sums[r][0] = O::multiply_add(sums[r][0], a[p * kRows + r], load(line));
    }
  }
  store_tile<T, kRows, 1>(sums, c, ldc, columns, accumulate);
}

constexpr std::int64_t kSkinnyRows = 4;

// The product of up to kSkinnyRows rows with a transposed B, which is not packed: decoding.
template <class O>
void skinny(const GemmTask<typename O::Value>& task, std::int64_t block_terms,
            typename O::Packed* packed_a) {
  using T = typename O::Value;
  constexpr decltype(&skinny_tile<O, 1>) kRun[] = {skinny_tile<O, 1>, skinny_tile<O, 2>,
                                                   skinny_tile<O, 3>, skinny_tile<O, 4>};
  for (std::int64_t term = 0; term < task.k; term += block_terms) {
    const std::int64_t terms = smaller(block_terms, task.k - term);
    pack_rows<O>(task.a + term, task.lda, task.m, terms, task.m, packed_a);
    for (std::int64_t column = 0; column < task.n; column += kLanes<T>) {
      kRun[task.m - 1](terms, packed_a, task.b + column * task.ldb + term, task.ldb,
                       task.c + column, task.ldc, smaller(kLanes<T>, task.n - column),
                       task.accumulate || term > 0);
    }
  }
}

template <class O>
constexpr GemmTiling blocked_tiling() {
  return {kTileRows, kTileColumns<typename O::Value>,
          kBlockTerms * (kBlockColumns + kBlockRows) + kSlack};
}

template <class O>
void blocked_gemm(const GemmTask<typename O::Value>& task, typename O::Value* workspace) {
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
  if (task.m <= kSkinnyRows && task.b_transposed && !task.a_transposed) {
    return skinny<O>(task, block_terms, packed_a);
  }
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
          run_panel<O>(task, tiles, row, j, columns, term, terms, packed_a, panel, block == 0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
