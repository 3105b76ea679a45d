// RMSNorm on CUDA. One block a row for what is per row; the weight's gradient in two stages (sums
// over fixed blocks of rows, then over those), because float atomics would change the bits from run
// to run. Sums are taken in double, as on the CPU.
#include <algorithm>
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/norm.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

constexpr int kRowThreads = 256;  // of a block that works on one row
constexpr int kColumnTile = 32;   // columns of a block that sums over rows: one a lane
constexpr int kRowLanes = 8;      // rows that such a block takes at once
constexpr int kRowsPerBlock =
    128;  // rows of one partial sum; fixed, so the order of the sum is too
constexpr int kColumnThreads = 128;  // of the second stage

// x, y: [rows, d], w: [d], rstd: [rows]; one block a row
template <class T>
__global__ void rmsnorm_forward_kernel(const T* x, const T* w, std::int64_t d, double eps, T* y,
                                       T* rstd) {
  WITAN_SHARED(double[kMaxWarps], partial);
  const std::int64_t row = blockIdx.x;
  x += row * d;
  y += row * d;
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < d; i += blockDim.x) {
    const double value = x[i];
    sum += value * value;
  }
  sum = block_sum(sum, partial);
  const double scale = 1.0 / sqrt(sum / static_cast<double>(d) + eps);
  for (std::int64_t i = threadIdx.x; i < d; i += blockDim.x) {
    y[i] = static_cast<T>(static_cast<double>(x[i]) * scale * static_cast<double>(w[i]));
  }
  if (threadIdx.x == 0) rstd[row] = static_cast<T>(scale);
}

// With g = dy w: dx = rstd g - x rstd^3 mean(g x). One block a row.
template <class T>
__global__ void rmsnorm_backward_dx_kernel(const T* dy, const T* x, const T* w, const T* rstd,
                                           std::int64_t d, bool accumulate, T* dx) {
  WITAN_SHARED(double[kMaxWarps], partial);
  const std::int64_t row = blockIdx.x;
  dy += row * d;
  x += row * d;
  dx += row * d;
  double dot = 0.0;
  for (std::int64_t i = threadIdx.x; i < d; i += blockDim.x) {
    dot += static_cast<double>(dy[i]) * static_cast<double>(w[i]) * static_cast<double>(x[i]);
  }
  dot = block_sum(dot, partial);
  const double scale = rstd[row];
  const double back = scale * scale * scale * dot / static_cast<double>(d);
  for (std::int64_t i = threadIdx.x; i < d; i += blockDim.x) {
    const double gradient = scale * static_cast<double>(dy[i]) * static_cast<double>(w[i]) -
                            back * static_cast<double>(x[i]);
    dx[i] = static_cast<T>(accumulate ? static_cast<double>(dx[i]) + gradient : gradient);
  }
}

// partial_dw [row blocks, d]: sums of dy x rstd over kRowsPerBlock rows. Block (column tile, row
// block) of kColumnTile x kRowLanes threads.
template <class T>
__global__ void rmsnorm_backward_partial_dw_kernel(const T* dy, const T* x, const T* rstd,
                                                   std::int64_t rows, std::int64_t d,
                                                   double* partial_dw) {
  WITAN_SHARED(double[kRowLanes][kColumnTile], sums);
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumnTile + threadIdx.x;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * kRowsPerBlock;
  const std::int64_t end = begin + kRowsPerBlock < rows ? begin + kRowsPerBlock : rows;
  double sum = 0.0;
  if (column < d) {
    for (std::int64_t row = begin + threadIdx.y; row < end; row += kRowLanes) {
      sum += static_cast<double>(dy[row * d + column]) * static_cast<double>(x[row * d + column]) *
             static_cast<double>(rstd[row]);
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= d) return;
  double total = 0.0;
  WITAN_UNROLL
  for (int lane = 0; lane < kRowLanes; ++lane) total += sums[lane][threadIdx.x];
  partial_dw[static_cast<std::int64_t>(blockIdx.y) * d + column] = total;
}

// dw [d] += column sums of partial_dw [row_blocks, d]; one thread a column.
template <class T>
__global__ void rmsnorm_backward_dw_kernel(const double* partial_dw, std::int64_t row_blocks,
                                           std::int64_t d, T* dw) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= d) return;
  double total = 0.0;
  for (std::int64_t block = 0; block < row_blocks; ++block) total += partial_dw[block * d + column];
  dw[column] = static_cast<T>(static_cast<double>(dw[column]) + total);
}

std::int64_t blocks_of(std::int64_t size, std::int64_t per_block) {
  return (size + per_block - 1) / per_block;
}

unsigned grid_extent(std::int64_t blocks, std::int64_t limit) {
  WITAN_CHECK(blocks <= limit, "a grid has at most ", limit, " blocks along this axis, found ",
              blocks);
  return static_cast<unsigned>(blocks);
}

constexpr std::int64_t kMaxGridX = 2147483647;
constexpr std::int64_t kMaxGridY = 65535;

// Whole warps, no more than a row can use.
dim3 row_block(std::int64_t d) {
  return dim3(static_cast<unsigned>(
      std::min<std::int64_t>(kRowThreads, blocks_of(d, kWarpSize) * kWarpSize)));
}

}  // namespace

void rmsnorm(const Context& ctx, const TensorView& x, const TensorView& w, double eps,
             const TensorView& y, const TensorView& rstd) {
  const std::int64_t rows = x.rows();
  const std::int64_t d = x.cols();
  if (rows == 0 || d == 0) return;
  dispatch_float(x.dtype, "rmsnorm", [&](auto zero) {
    using T = decltype(zero);
    launch(rmsnorm_forward_kernel<T>, dim3(grid_extent(rows, kMaxGridX)), row_block(d), 0,
           ctx.stream, x.as<T>(), w.as<T>(), d, eps, y.as<T>(), rstd.as<T>());
  });
}

void rmsnorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                      const TensorView& w, const TensorView& rstd, const TensorView& dx,
                      Accumulate accumulate_dx, const TensorView& dw) {
  const std::int64_t rows = x.rows();
  const std::int64_t d = x.cols();
  if (rows == 0 || d == 0) return;
  const std::int64_t row_blocks = blocks_of(rows, kRowsPerBlock);
  double* partial_dw = static_cast<double*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(row_blocks * d) * sizeof(double)));
  dispatch_float(x.dtype, "rmsnorm_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(
        rmsnorm_backward_partial_dw_kernel<T>,
        dim3(grid_extent(blocks_of(d, kColumnTile), kMaxGridX), grid_extent(row_blocks, kMaxGridY)),
        dim3(kColumnTile, kRowLanes), 0, ctx.stream, dy.as<T>(), x.as<T>(), rstd.as<T>(), rows, d,
        partial_dw);
    launch(rmsnorm_backward_dw_kernel<T>,
           dim3(grid_extent(blocks_of(d, kColumnThreads), kMaxGridX)), dim3(kColumnThreads), 0,
           ctx.stream, partial_dw, row_blocks, d, dw.as<T>());
    launch(rmsnorm_backward_dx_kernel<T>, dim3(grid_extent(rows, kMaxGridX)), row_block(d), 0,
           ctx.stream, dy.as<T>(), x.as<T>(), w.as<T>(), rstd.as<T>(), d,
           accumulate_dx == Accumulate::kYes, dx.as<T>());
  });
}

}  // namespace witan::ops::cuda
