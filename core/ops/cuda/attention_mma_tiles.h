// Tiles of bfloat16 in shared memory, and products of them on the tensor cores. Rows of a tile are
// kDim + 8 elements apart, so that the 8 rows of a matrix that ldmatrix reads at once lie in
// different banks. Register layouts: core/base/cuda/device_intrinsics.h.
#pragma once

#include <cstdint>

#include "core/base/cuda/device_intrinsics.h"
#include "core/ops/cuda/attention_layout.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {

inline constexpr int kMmaWarps = 4;
inline constexpr int kMmaThreads = kMmaWarps * kWarpSize;
inline constexpr int kMmaRows = 16;  // of a product: a block of queries, or of keys
inline constexpr float kLog2e = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

template <int kDim>
inline constexpr int kPitch = kDim + 8;

// Elements of a tile.
template <int kRows, int kDim>
inline constexpr int kTileElements = kRows* kPitch<kDim>;

// Starts copying `count` rows of `dim` elements, `row` elements apart, to a tile [kRows, kDim]
// whose rest becomes 0. All threads call it; the copies are not committed.
template <int kRows, int kDim>
__device__ void copy_tile(const std::uint16_t* from, std::int64_t row, std::int64_t count,
                          std::int64_t dim, std::uint16_t* tile) {
  constexpr int kPieces = kDim / 8;  // of 16 bytes, in a row
  WITAN_UNROLL_BY(2)
  for (int begin = 0; begin < kRows * kPieces; begin += kMmaThreads) {
    const int i = begin + static_cast<int>(threadIdx.x);
    if (kRows * kPieces % kMmaThreads != 0 && i >= kRows * kPieces) break;
    const int r = i / kPieces;
    const int c = i % kPieces * 8;
    const bool valid = r < count && c < dim;
    copy_async<16>(tile + r * kPitch<kDim> + c, valid ? from + r * row + c : from, valid);
  }
}

// The fragment a of rows `row` .. + 15 and columns `column` .. + 15 of a tile.
template <int kDim>
__device__ void load_a(const std::uint16_t* tile, int row, int column, std::uint32_t (&a)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  load_matrices(tile + (row + lane % 16) * kPitch<kDim> + column + lane / 16 * 8, a);
}

// The fragments b of two products: b is the transpose of rows `row` .. + 15 (of which each product
// takes 8) and columns `column` .. + 15 of a tile. The first product's are b[0], b[1].
template <int kDim>
__device__ void load_b_of_rows(const std::uint16_t* tile, int row, int column,
                               std::uint32_t (&b)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int r = row + lane / 16 * 8 + lane % 8;
  load_matrices(tile + r * kPitch<kDim> + column + lane / 8 % 2 * 8, b);
}

// The same where b is the rows and columns as they stand, each product taking 8 of the columns.
template <int kDim>
__device__ void load_b_of_columns(const std::uint16_t* tile, int row, int column,
                                  std::uint32_t (&b)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  load_matrices_transposed(tile + (row + lane % 16) * kPitch<kDim> + column + lane / 16 * 8, b);
}

// sums of kMmaRows rows: sums[j] are columns 8 j .. 8 j + 7, in the layout of c.
template <int kColumns>
using MmaSums = float[kColumns / 8][4];

// sums[m] = a b^T: rows `row_a` + 16 m .. + 15 of tile a [.., kDim], all rows of tile b [kRows,
// kDim].
template <int kBlocks, int kRows, int kDim>
__device__ void multiply_rows(const std::uint16_t* a, int row_a, const std::uint16_t* b,
                              MmaSums<kRows> (&sums)[kBlocks]) {
  WITAN_UNROLL
  for (int m = 0; m < kBlocks; ++m) {
    WITAN_UNROLL
    for (int j = 0; j < kRows / 8; ++j) {
      WITAN_UNROLL
      for (int i = 0; i < 4; ++i) sums[m][j][i] = 0;
    }
  }
  WITAN_UNROLL_BY(4)
  for (int c = 0; c < kDim; c += 16) {
    std::uint32_t from_a[kBlocks][4];
    WITAN_UNROLL
    for (int m = 0; m < kBlocks; ++m) load_a<kDim>(a, row_a + kMmaRows * m, c, from_a[m]);
    WITAN_UNROLL
    for (int j = 0; j < kRows / 8; j += 2) {
      std::uint32_t from_b[4];
      load_b_of_rows<kDim>(b, 8 * j, c, from_b);
      WITAN_UNROLL
      for (int m = 0; m < kBlocks; ++m) {
        multiply_add(sums[m][j], from_a[m], from_b[0], from_b[1]);
        multiply_add(sums[m][j + 1], from_a[m], from_b[2], from_b[3]);
      }
    }
  }
}

// The fragment a of columns 16 i .. 16 i + 15 of what multiply_rows() left, rounded.
template <int kColumns>
__device__ void pack_a(const MmaSums<kColumns>& sums, int i, std::uint32_t (&a)[4]) {
  a[0] = pack_bfloat16(sums[2 * i][0], sums[2 * i][1]);
  a[1] = pack_bfloat16(sums[2 * i][2], sums[2 * i][3]);
  a[2] = pack_bfloat16(sums[2 * i + 1][0], sums[2 * i + 1][1]);
  a[3] = pack_bfloat16(sums[2 * i + 1][2], sums[2 * i + 1][3]);
}

// sums[m] += weights[m] b: weights [16, kRows] rounded to bfloat16, columns `column` ..
// + kColumns - 1 of tile b [kRows, kDim].
template <int kBlocks, int kRows, int kDim, int kColumns>
__device__ void add_weighted_rows(const MmaSums<kRows> (&weights)[kBlocks], const std::uint16_t* b,
                                  int column, MmaSums<kColumns> (&sums)[kBlocks]) {
  WITAN_UNROLL
  for (int r = 0; r < kRows; r += 16) {
    std::uint32_t from_a[kBlocks][4];
    WITAN_UNROLL
    for (int m = 0; m < kBlocks; ++m) pack_a<kRows>(weights[m], r / 16, from_a[m]);
    WITAN_UNROLL
    for (int j = 0; j < kColumns / 8; j += 2) {
      std::uint32_t from_b[4];
      load_b_of_columns<kDim>(b, r, column + 8 * j, from_b);
      WITAN_UNROLL
      for (int m = 0; m < kBlocks; ++m) {
        multiply_add(sums[m][j], from_a[m], from_b[0], from_b[1]);
        multiply_add(sums[m][j + 1], from_a[m], from_b[2], from_b[3]);
      }
    }
  }
}

// Of a lane's elements sums[j][2 h], sums[j][2 h + 1]: row g + 8 h, columns 8 j + 2 t and the next.
__device__ inline int lane_row(int h) {
  return static_cast<int>(threadIdx.x) % kWarpSize / 4 + 8 * h;
}
__device__ inline int lane_column() { return static_cast<int>(threadIdx.x) % 4 * 2; }

// to[r * row + c] = factor[h] sums, for rows first_row + r below count and columns below dim.
template <int kColumns>
__device__ void store_sums(const MmaSums<kColumns>& sums, const float (&factor)[2],
                           std::int64_t first_row, std::int64_t first_column, std::int64_t count,
                           std::int64_t dim, std::int64_t row, float* to) {
  WITAN_UNROLL
  for (int h = 0; h < 2; ++h) {
    const std::int64_t r = first_row + lane_row(h);
    if (r >= count) continue;
    WITAN_UNROLL
    for (int j = 0; j < kColumns / 8; ++j) {
      const std::int64_t c = first_column + 8 * j + lane_column();
      if (c >= dim) continue;
      Pack<float, 2> pair;
      pair.value[0] = sums[j][2 * h] * factor[h];
      pair.value[1] = sums[j][2 * h + 1] * factor[h];
      store_pack<2>(to + r * row + c, pair);
    }
  }
}

}  // namespace witan::ops::cuda
