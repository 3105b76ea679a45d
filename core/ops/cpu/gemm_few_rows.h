// Matrix products of few rows with a transposed B: a small expert, decoding. Every row of B is used
// for few rows of C, so that packing B would cost as much as the product. For kernel files only.
#pragma once

#include <utility>

#include "core/ops/cpu/gemm_packing.h"

namespace witan::cpu::WITAN_ISA {
namespace {

// c [kRows, columns] (+)= a b over `terms` for a few rows, a packed as [depth, kRows], b transposed
// and at most one vector of columns wide: its squares are transposed in registers and used once,
// without a detour through memory.
template <class O, int kRows, class V>
void skinny_tile(std::int64_t terms, const typename O::Packed* a, const V* b, std::int64_t ldb,
                 typename O::Value* c, std::int64_t ldc, std::int64_t columns, bool accumulate) {
  using T = typename O::Value;
  constexpr std::int64_t n = kLanes<T>;
  const V* source[n];
  for (std::int64_t j = 0; j < n; ++j) source[j] = b + smaller(j, columns - 1) * ldb;
  Vec<T> sums[kRows][1] = {};
  const std::int64_t whole = terms / (n * O::kTerms) * n;
  std::int64_t p = 0;
  for (; p < whole; p += n) {
    Vec<T> square[n];
#pragma GCC unroll 16
    for (int j = 0; j < n; ++j) {
      square[j] = O::row(source[j] + p * O::kTerms);
      // The next tile: as many streams as rows are more than the hardware follows by itself.
      for (std::int64_t i = 0; i < n * O::kTerms; i += kLine<V>) {
        __builtin_prefetch(source[j] + n * ldb + p * O::kTerms + i);
      }
    }
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

// The product of up to kSkinnyRows rows with a transposed B, which is not packed: decoding. B is
// read once, row after row; `packed_a` has room for the terms of `most_blocks` blocks.
template <class O, class A, class B>
void skinny(const GemmTask<typename O::Value, A, B>& task, std::int64_t block_terms,
            std::int64_t most_blocks, typename O::Packed* packed_a) {
  using T = typename O::Value;
  constexpr decltype(&skinny_tile<O, 1, B>) kRun[] = {skinny_tile<O, 1, B>, skinny_tile<O, 2, B>,
                                                      skinny_tile<O, 3, B>, skinny_tile<O, 4, B>};
  for (std::int64_t begin = 0; begin < task.k; begin += most_blocks * block_terms) {
    const std::int64_t end = smaller(task.k, begin + most_blocks * block_terms);
    for (std::int64_t term = begin; term < end; term += block_terms) {
      pack_rows<O>(task.a + term, task.lda, task.m, smaller(block_terms, end - term), task.m,
                   packed_a + (term - begin) * task.m);
    }
    for (std::int64_t column = 0; column < task.n; column += kLanes<T>) {
      for (std::int64_t term = begin; term < end; term += block_terms) {
        kRun[task.m - 1](smaller(block_terms, end - term), packed_a + (term - begin) * task.m,
                         task.b + column * task.ldb + term, task.ldb, task.c + column, task.ldc,
                         smaller(kLanes<T>, task.n - column), task.accumulate || term > 0);
      }
    }
  }
}

// c [columns, kRows] (+)= sums^T.
template <class T, int kRows, int kCount>
inline void store_transposed(const Vec<T> (&sums)[kRows][kCount], T* c, std::int64_t ldc,
                             std::int64_t columns, bool accumulate) {
  constexpr int n = kLanes<T>;
  for (int v = 0; v < kCount; ++v) {
    const std::int64_t count = smaller(n, columns - v * n);
    for (int first = 0; first < kRows; first += n) {
      const Part part{kRows - first < n ? kRows - first : n};
      Vec<T> square[n] = {};
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) {
        if (first + r < kRows) square[r] = sums[first + r][v];
      }
      transpose<T>(square);
      for (std::int64_t j = 0; j < count; ++j) {
        T* to = c + (v * n + j) * ldc + first;
        store(to, accumulate ? load(to, part) + square[j] : square[j], part);
      }
    }
  }
}

// c^T [kRows, columns] (+)= w x^T over `terms`: the product with the parts of its operands
// exchanged. The rows of w, [kRows, ldw], are B's and are read as they lie, a line at a time; the
// panel [depth, kCount vectors] holds the rows of A; c [columns, ldc].
template <class O, int kRows, int kCount, class V>
void swapped_tile(std::int64_t terms, const V* w, std::int64_t ldw, const typename O::Packed* panel,
                  typename O::Value* c, std::int64_t ldc, std::int64_t columns, bool accumulate) {
  using T = typename O::Value;
  constexpr std::int64_t n = kLanes<T>;
  Vec<T> sums[kRows][kCount] = {};
  const auto add = [&](const T* a, std::int64_t stride) __attribute__((always_inline)) {
    Vec<T> row[kCount];
#pragma GCC unroll 2
    for (int v = 0; v < kCount; ++v) row[v] = load(panel + v * n);
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kCount; ++v) {
        sums[r][v] = O::multiply_add(sums[r][v], a[r * stride], row[v]);
      }
    }
    panel += kCount * n;
  };
  const std::int64_t whole = terms / (n * O::kTerms) * n;
  std::int64_t p = 0;
  for (; p < whole; p += n) {
    alignas(64) T lines[kRows][n];
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
      const V* from = w + r * ldw + p * O::kTerms;
      store(lines[r], O::row(from));
      for (std::int64_t j = 0; j < n * O::kTerms; j += kLine<V>) {
        __builtin_prefetch(from + kRows * ldw + j);  // the next tile
      }
    }
    for (std::int64_t l = 0; l < n; ++l) add(&lines[0][l], n);
  }
  for (; p < depth_of<O>(terms); ++p) {
    T line[kRows];
    for (int r = 0; r < kRows; ++r) {
      line[r] = O::one(w + r * ldw + p * O::kTerms, 1, terms_at<O>(p, terms));
    }
    add(line, 1);
  }
  store_transposed<T, kRows, kCount>(sums, c, ldc, columns, accumulate);
}

constexpr std::int64_t kSwappedRows = 64;

// Whether the rows of C fill whole vectors well enough to be columns of C^T.
template <class T>
constexpr bool swapping_pays(std::int64_t rows) {
  const std::int64_t lanes = ceil_div(rows, kLanes<T>) * kLanes<T>;
  return rows <= kTileColumns<T> || (rows <= kSwappedRows && 4 * lanes <= 5 * rows);
}

template <class O, class V>
struct SwappedTiles {
  decltype(&swapped_tile<O, 1, 1, V>) narrow[kTileRows];  // at most one vector of columns
  decltype(&swapped_tile<O, 1, 1, V>) wide[kTileRows];
};
template <class O, class V, int... kIndex>
constexpr SwappedTiles<O, V> make_swapped_tiles(std::integer_sequence<int, kIndex...>) {
  return {{swapped_tile<O, kIndex + 1, 1, V>...}, {swapped_tile<O, kIndex + 1, kVectors, V>...}};
}

// The product of up to kSwappedRows rows with a transposed B.
template <class O, class A, class B>
void swapped(const GemmTask<typename O::Value, A, B>& task, std::int64_t block_terms,
             typename O::Packed* panel) {
  using T = typename O::Value;
  constexpr SwappedTiles<O, B> kRun =
      make_swapped_tiles<O, B>(std::make_integer_sequence<int, kTileRows>{});
  const RowTiles tiles{task.n, ceil_div(task.n, kTileRows)};
  for (std::int64_t term = 0; term < task.k; term += block_terms) {
    const std::int64_t terms = smaller(block_terms, task.k - term);
    for (std::int64_t row = 0; row < task.m; row += kTileColumns<T>) {
      const std::int64_t rows = smaller(kTileColumns<T>, task.m - row);
      const bool narrow = rows <= kLanes<T>;
      pack_rows<O>(task.a + row * task.lda + term, task.lda, rows, terms,
                   narrow ? kLanes<T> : kTileColumns<T>, panel);
      for (std::int64_t t = 0; t < tiles.count; ++t) {
        const std::int64_t column = tiles.begin(t);
        const std::int64_t index = tiles.begin(t + 1) - column - 1;
        const auto run = narrow ? kRun.narrow[index] : kRun.wide[index];
        run(terms, task.b + column * task.ldb + term, task.ldb, panel,
            task.c + row * task.ldc + column, task.ldc, rows, task.accumulate || term > 0);
      }
    }
  }
}

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
