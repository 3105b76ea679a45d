// What the blocked matrix product (gemm_blocked.h) and the one of few rows (gemm_few_rows.h) share:
// the sizes of blocks and tiles, packing, and the store of a tile. For kernel files only.
#pragma once

#include <cstring>
#include <type_traits>

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
constexpr std::int64_t kBlockTerms = 256;
constexpr std::int64_t kBlockTermsStep = 16;
constexpr std::int64_t kBlockRows = 168;      // of A: with kBlockTerms, a part of the L2 cache
constexpr std::int64_t kBlockColumns = 1024;  // of B: the rest of it
template <class T>
constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));  // of the cache
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

// to [depth, stride], columns 0 .. rows - 1 = the transpose of from [rows, ld]; the columns after
// them, up to whole vectors, are written too and belong to the slots filled next.
template <class O, class V>
void pack_rows(const V* from, std::int64_t ld, std::int64_t rows, std::int64_t terms,
               std::int64_t stride, typename O::Packed* to) {
  using T = typename O::Value;
  constexpr std::int64_t n = kLanes<T>;
  const std::int64_t whole = terms / (n * O::kTerms) * n;
  // The last group first: what it writes too far lies in the next line of the first group.
  for (std::int64_t group = ceil_div(rows, n) - 1; group >= 0; --group) {
    const V* first = from + group * n * ld;
    const std::int64_t count = smaller(n, rows - group * n);
    // Lanes without a row of their own repeat the last one: nobody reads them.
    const V* source[n];
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

// Rows of a block of A, cut into register tiles of nearly equal height.
struct RowTiles {
  std::int64_t rows;
  std::int64_t count;
  std::int64_t begin(std::int64_t tile) const { return rows * tile / count; }
};

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
