#include "core/ops/cuda/grouped_bias.h"

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/column_sums.h"
#include "core/ops/cuda/operand.h"
#include "core/ops/cuda/words.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

// The group of `row`, which lies in [offsets[0], offsets[groups]).
__device__ std::int64_t group_of(const std::int64_t* offsets, std::int64_t groups,
                                 std::int64_t row) {
  std::int64_t low = 0;
  std::int64_t high = groups;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    if (offsets[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// y[r] += row_weight[r] bias[group of r]; one block a row: 8 bytes an element of float32, since the
// biases stay in the cache
template <class T>
__global__ void grouped_add_bias_kernel(const std::int64_t* offsets, std::int64_t groups,
                                        std::int64_t first_row, const T* row_weight, const T* bias,
                                        std::int64_t n, T* y) {
  const std::int64_t row = first_row + blockIdx.x;
  const T* shift = bias + group_of(offsets, groups, row) * n;
  const T weight = row_weight == nullptr ? T{1} : row_weight[row];
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) y[row * n + i] += weight * shift[i];
}

// dbias[g] += the sum over its rows of row_weight dy; block (column tile, group), 4 bytes an
// element of dy
template <class T>
__global__ void grouped_bias_backward_kernel(const std::int64_t* offsets, const T* dy,
                                             const T* row_weight, std::int64_t n, T* dbias) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kColumnTile + threadIdx.x;
  const std::int64_t group = blockIdx.y;
  const double total = sum_over_rows(
      offsets[group], offsets[group + 1], column, n, [&](std::int64_t row, std::int64_t c) {
        const double weight = row_weight == nullptr ? 1.0 : static_cast<double>(row_weight[row]);
        return weight * static_cast<double>(dy[row * n + c]);
      });
  if (threadIdx.y != 0 || column >= n) return;
  T* out = dbias + group * n + column;
  *out = static_cast<T>(static_cast<double>(*out) + total);
}

// drow_weight[r] += <dy[r], bias[group of r]>; one block a row
template <class T>
__global__ void grouped_bias_drow_kernel(const std::int64_t* offsets, std::int64_t groups,
                                         std::int64_t first_row, const T* dy, const T* bias,
                                         std::int64_t n, T* drow_weight) {
  WITAN_SHARED(double[kMaxWarps], partial);
  const std::int64_t row = first_row + blockIdx.x;
  const T* shift = bias + group_of(offsets, groups, row) * n;
  double dot = 0.0;
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    dot += static_cast<double>(dy[row * n + i]) * static_cast<double>(shift[i]);
  }
  dot = block_sum(dot, partial);
  if (threadIdx.x == 0) drow_weight[row] += static_cast<T>(dot);
}

// The offsets in the stream's scratch.
std::int64_t* upload_offsets(const Context& ctx, std::span<const std::int64_t> offsets) {
  auto* to =
      static_cast<std::int64_t*>(witan::cuda::scratch(ctx, offsets.size() * sizeof(std::int64_t)));
  upload_words(ctx, offsets, to);
  return to;
}

}  // namespace

void grouped_add_bias(const Context& ctx, const TensorView& y,
                      std::span<const std::int64_t> offsets, const TensorView& row_weight,
                      const TensorView& bias) {
  const std::int64_t rows = offsets.back() - offsets.front();
  if (rows == 0 || y.cols() == 0) return;
  const std::int64_t* bounds = upload_offsets(ctx, offsets);
  dispatch_float(y.dtype, "grouped_add_bias", [&](auto zero) {
    using T = decltype(zero);
    launch(grouped_add_bias_kernel<T>, dim3(grid_extent(rows, kMaxGridX)), row_block(y.cols()), 0,
           ctx.stream, bounds, bias.rows(), offsets.front(), data_or_null<T>(row_weight),
           bias.as<T>(), y.cols(), y.as<T>());
  });
}

void grouped_bias_backward(const Context& ctx, const TensorView& dy,
                           std::span<const std::int64_t> offsets, const TensorView& row_weight,
                           const TensorView& bias, const TensorView& dbias,
                           const TensorView& drow_weight) {
  const std::int64_t rows = offsets.back() - offsets.front();
  const std::int64_t n = dy.cols();
  if (rows == 0 || n == 0) return;
  const std::int64_t* bounds = upload_offsets(ctx, offsets);
  dispatch_float(dy.dtype, "grouped_bias_backward", [&](auto zero) {
    using T = decltype(zero);
    const dim3 grid(grid_extent(blocks_of(n, kColumnTile), kMaxGridX),
                    grid_extent(bias.rows(), kMaxGridY));
    launch(grouped_bias_backward_kernel<T>, grid, column_block(), 0, ctx.stream, bounds, dy.as<T>(),
           data_or_null<T>(row_weight), n, dbias.as<T>());
    if (row_weight.empty()) return;
    launch(grouped_bias_drow_kernel<T>, dim3(grid_extent(rows, kMaxGridX)), row_block(n), 0,
           ctx.stream, bounds, bias.rows(), offsets.front(), dy.as<T>(), bias.as<T>(), n,
           drow_weight.as<T>());
  });
}

}  // namespace witan::ops::cuda
