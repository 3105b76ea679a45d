// Sums over the rows of a matrix in two stages, without float atomics, which would change the bits
// from run to run: fixed blocks of rows make partial sums in double, which one thread a column then
// adds in their order.
#pragma once

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"

namespace witan::ops::cuda {

inline constexpr int kColumnTile = 32;  // columns of a block of the first stage: one a lane
inline constexpr int kRowLanes = 8;     // rows that such a block takes at once
// Rows of one partial sum; fixed, so the order of the sum is too.
inline constexpr int kRowsPerBlock = 128;

inline std::int64_t row_blocks_of(std::int64_t rows) { return blocks_of(rows, kRowsPerBlock); }

// Grid and block of the first stage.
inline dim3 column_grid(std::int64_t rows, std::int64_t columns) {
  return dim3(grid_extent(blocks_of(columns, kColumnTile), kMaxGridX),
              grid_extent(row_blocks_of(rows), kMaxGridY));
}
inline dim3 column_block() { return dim3(kColumnTile, kRowLanes); }

// The first stage, on all threads of a block: the sum of value(row, column) over rows [begin, end)
// for this thread's column, on the threads of row lane 0; elsewhere 0. May be called again after
// a __syncthreads().
template <class Value>
__device__ double sum_over_rows(std::int64_t begin, std::int64_t end, std::int64_t column,
                                std::int64_t columns, const Value& value) {
  WITAN_SHARED(double[kRowLanes][kColumnTile], sums);
  double sum = 0.0;
  if (column < columns) {
    for (std::int64_t row = begin + threadIdx.y; row < end; row += kRowLanes) {
      sum += value(row, column);
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0) return 0.0;
  double total = 0.0;
  WITAN_UNROLL
  for (int lane = 0; lane < kRowLanes; ++lane) total += sums[lane][threadIdx.x];
  return total;
}

// partial [row blocks, columns] = the sums of value(row, column) of each block of rows, on the grid
// of column_grid().
template <class Value>
__device__ void store_column_partials(std::int64_t rows, std::int64_t columns, double* partial,
                                      const Value& value) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumnTile + threadIdx.x;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * kRowsPerBlock;
  const std::int64_t end = begin + kRowsPerBlock < rows ? begin + kRowsPerBlock : rows;
  const double total = sum_over_rows(begin, end, column, columns, value);
  if (threadIdx.y == 0 && column < columns) {
    partial[static_cast<std::int64_t>(blockIdx.y) * columns + column] = total;
  }
}

// y [columns] (+)= the column sums of partial [row_blocks, columns]; one thread a column.
template <class T>
__global__ void add_partials_kernel(const double* partial, std::int64_t row_blocks,
                                    std::int64_t columns, bool accumulate, T* y) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  double total = 0.0;
  for (std::int64_t block = 0; block < row_blocks; ++block) {
    total += partial[block * columns + column];
  }
  y[column] = static_cast<T>(accumulate ? static_cast<double>(y[column]) + total : total);
}

// The second stage.
template <class T>
void add_partials(const Stream& stream, const double* partial, std::int64_t rows,
                  std::int64_t columns, bool accumulate, T* y) {
  constexpr int kThreads = 128;
  launch(add_partials_kernel<T>, dim3(grid_extent(blocks_of(columns, kThreads), kMaxGridX)),
         dim3(kThreads), 0, stream, partial, row_blocks_of(rows), columns, accumulate, y);
}

}  // namespace witan::ops::cuda
