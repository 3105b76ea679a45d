// The gradient of the embedding on CUDA. Several tokens add to one row of dw, so the tokens are
// first sorted by row (by counting, without atomics), and each row is then summed by one block in
// the order of the tokens: the same bits in every run, and those of the CPU.
#include "core/ops/cuda/embedding.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"
#include "core/ops/cuda/pieces.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

constexpr int kSortThreads = 256;
constexpr int kSumThreads = 128;
constexpr int kRowsAtOnce = 4;  // loads in flight before their sums

// order [count]: the tokens' indices, ascending by token and, for equal tokens, by index. A token's
// place is the number of those before it, found by comparing it with all others: count^2
// comparisons, which up to some 10^5 tokens are less than the traffic of the sums.
__global__ void embedding_order_kernel(const std::int32_t* tokens, std::int64_t count,
                                       std::int32_t* order) {
  WITAN_SHARED(std::int32_t[kSortThreads], tile);
  const std::int64_t self = first_index();
  const std::int32_t token = self < count ? tokens[self] : 0;
  std::int64_t place = 0;
  for (std::int64_t begin = 0; begin < count; begin += kSortThreads) {
    const std::int64_t mine = begin + threadIdx.x;
    if (mine < count) tile[threadIdx.x] = tokens[mine];
    __syncthreads();
    const std::int64_t filled = count - begin < kSortThreads ? count - begin : kSortThreads;
    for (std::int64_t i = 0; i < filled; ++i) {
      const std::int32_t other = tile[i];
      place += other < token || (other == token && begin + i < self) ? 1 : 0;
    }
    __syncthreads();
  }
  if (self < count) order[place] = static_cast<std::int32_t>(self);
}

// dw[token] += sum of dy over the tokens equal to it. Block (x, y): columns of tile y for the run
// of equal tokens that begins at place x of the order; none begins there: nothing to do. Moves dy
// once and each touched row of dw twice.
template <class T, int N>
__global__ void embedding_backward_kernel(const std::int32_t* tokens, const std::int32_t* order,
                                          const T* dy, std::int64_t count, std::int64_t d, T* dw) {
  const std::int64_t begin = blockIdx.x;
  const std::int32_t token = tokens[order[begin]];
  if (begin > 0 && tokens[order[begin - 1]] == token) return;
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * N;
  if (column >= d) return;
  std::int64_t end = begin + 1;
  while (end < count && tokens[order[end]] == token) ++end;

  using Values = Pack<T, N>;
  T* row = dw + token * d + column;
  Values sum = load_pack<N>(row);
  Values next[kRowsAtOnce];
  for (std::int64_t i = begin; i < end; i += kRowsAtOnce) {
    WITAN_UNROLL
    for (int j = 0; j < kRowsAtOnce; ++j) {
      if (i + j < end) next[j] = load_pack<N>(dy + order[i + j] * d + column);
    }
    WITAN_UNROLL
    for (int j = 0; j < kRowsAtOnce; ++j) {
      if (i + j >= end) continue;
      WITAN_UNROLL
      for (int c = 0; c < N; ++c) sum.value[c] += next[j].value[c];
    }
  }
  store_pack<N>(row, sum);
}

template <class T, int N>
void launch_backward(const Context& ctx, const TensorView& tokens, const std::int32_t* order,
                     const TensorView& dy, const TensorView& dw) {
  const std::int64_t d = dw.cols();
  launch(embedding_backward_kernel<T, N>,
         dim3(grid_extent(dy.rows(), kMaxGridX),
              grid_extent(blocks_of(d, std::int64_t{kSumThreads} * N), kMaxGridY)),
         dim3(kSumThreads), 0, ctx.stream, tokens.as<std::int32_t>(), order, dy.as<T>(), dy.rows(),
         d, dw.as<T>());
}

}  // namespace

void embedding_backward(const Context& ctx, const TensorView& tokens, const TensorView& dy,
                        const TensorView& dw) {
  const std::int64_t count = tokens.size();
  if (dy.size() == 0) return;
  auto* order = static_cast<std::int32_t*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(count) * sizeof(std::int32_t)));
  launch(embedding_order_kernel, dim3(grid_extent(blocks_of(count, kSortThreads), kMaxGridX)),
         dim3(kSortThreads), 0, ctx.stream, tokens.as<std::int32_t>(), count, order);
  dispatch_float(dw.dtype, "embedding_backward", [&](auto zero) {
    using T = decltype(zero);
    const bool wide = dw.cols() % kWidest<T> == 0 && is_aligned(dy.data) && is_aligned(dw.data);
    dispatch_width<T>(wide, [&](auto width) {
      launch_backward<T, decltype(width)::value>(ctx, tokens, order, dy, dw);
    });
  });
}

}  // namespace witan::ops::cuda
