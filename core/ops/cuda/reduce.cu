// Sums of all elements in two stages: blocks of fixed size, then one block over their results. The
// order of additions depends on the number of elements alone.
#include "core/ops/cuda/reduce.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/transfer.h"

namespace witan::ops::cuda {
namespace {

constexpr std::int64_t kElements = 8192;  // of one block

template <bool kSquares, class T>
__device__ double term(T x) {
  const double value = static_cast<double>(x);
  return kSquares ? value * value : value;
}

// partial [blocks]: the sum of each block's elements or of their squares; reads 4 n bytes of float
template <class T, bool kSquares, int kWidth>
__global__ void reduce_partial_kernel(const T* x, std::int64_t n, double* partial) {
  WITAN_SHARED(double[kMaxWarps], warps);
  const std::int64_t begin = blockIdx.x * kElements;
  const std::int64_t end = begin + kElements < n ? begin + kElements : n;
  double sum = 0.0;
  std::int64_t i = begin + static_cast<std::int64_t>(threadIdx.x) * kWidth;
  for (; i + kWidth <= end; i += static_cast<std::int64_t>(blockDim.x) * kWidth) {
    const Pack<T, kWidth> pack = load_pack<kWidth>(x + i);
    WITAN_UNROLL
    for (int j = 0; j < kWidth; ++j) sum += term<kSquares>(pack.value[j]);
  }
  for (; i < end; ++i) sum += term<kSquares>(x[i]);  // of the thread whose piece is cut short
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// total [1] = the sum of partial [count]; one block
__global__ void reduce_total_kernel(const double* partial, std::int64_t count, double* total) {
  WITAN_SHARED(double[kMaxWarps], warps);
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) *total = sum;
}

// total [1] += factor <a, b>; one block, reads 8 n bytes of float
template <class A, class B>
__global__ void add_dot_kernel(double factor, const A* a, const B* b, std::int64_t n,
                               double* total) {
  WITAN_SHARED(double[kMaxWarps], warps);
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) *total += factor * sum;
}

template <bool kSquares>
double reduced(const Context& ctx, const TensorView& x) {
  if (x.size() == 0) return 0.0;
  const std::int64_t blocks = blocks_of(x.size(), kElements);
  auto* partial = static_cast<double*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(blocks + 1) * sizeof(double)));
  double* total = partial + blocks;
  dispatch_float(x.dtype, "sum", [&](auto zero) {
    using T = decltype(zero);
    dispatch_width<T>(is_aligned(x.data), [&](auto width) {
      launch(reduce_partial_kernel<T, kSquares, decltype(width)::value>,
             dim3(grid_extent(blocks, kMaxGridX)), dim3(kFlatThreads), 0, ctx.stream, x.as<T>(),
             x.size(), partial);
    });
  });
  launch(reduce_total_kernel, dim3(1), dim3(kFlatThreads), 0, ctx.stream, partial, blocks, total);
  double result = 0.0;
  transfer(ctx, {total, {1}, DType::kFloat64, ctx.device}, view_of(&result, {1}));
  return result;
}

}  // namespace

double sum(const Context& ctx, const TensorView& x) { return reduced<false>(ctx, x); }

double sum_of_squares(const Context& ctx, const TensorView& x) { return reduced<true>(ctx, x); }

void add_dot(const Context& ctx, double factor, const TensorView& a, const TensorView& b,
             const TensorView& total) {
  if (a.size() == 0) return;
  constexpr int kThreads = 1024;  // of the only block
  dispatch_float(a.dtype, "add_dot", [&](auto left) {
    dispatch_float(b.dtype, "add_dot", [&](auto right) {
      using A = decltype(left);
      using B = decltype(right);
      launch(add_dot_kernel<A, B>, dim3(1), dim3(kThreads), 0, ctx.stream, factor, a.as<A>(),
             b.as<B>(), a.size(), total.as<double>());
    });
  });
}

}  // namespace witan::ops::cuda
