// Row movement on CUDA: pure traffic, so every thread moves the largest pieces that row length and
// alignment allow, neighbouring threads neighbouring pieces. Bytes moved: each row once in and once
// out, and the indices, unless said otherwise.
#include "core/ops/cuda/permute.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"
#include "core/ops/cuda/pieces.h"

namespace witan::ops::cuda {
namespace {

// to[r] = from[index[r]]: from [n, pieces], to [rows, pieces]
template <class Piece>
__global__ void permute_forward_kernel(const Piece* from, const std::int32_t* index,
                                       std::int64_t rows, std::int64_t pieces, Piece* to) {
  for (std::int64_t i = first_index(); i < rows * pieces; i += index_stride()) {
    to[i] = from[index[i / pieces] * pieces + i % pieces];
  }
}

// The same over the rows of first [split, pieces] and those of second behind them.
template <class Piece>
__global__ void permute_two_kernel(const Piece* first, const Piece* second,
                                   const std::int32_t* index, std::int64_t split, std::int64_t rows,
                                   std::int64_t pieces, Piece* to) {
  for (std::int64_t i = first_index(); i < rows * pieces; i += index_stride()) {
    const std::int64_t row = index[i / pieces];
    to[i] = row < split ? first[row * pieces + i % pieces]
                        : second[(row - split) * pieces + i % pieces];
  }
}

// to[index[r]] = from[r]; index hits every row at most once, so no two threads write one address
template <class Piece>
__global__ void permute_backward_kernel(const Piece* from, const std::int32_t* index,
                                        std::int64_t rows, std::int64_t pieces, Piece* to) {
  for (std::int64_t i = first_index(); i < rows * pieces; i += index_stride()) {
    to[index[i / pieces] * pieces + i % pieces] = from[i];
  }
}

// y[r] (+)= sum over j in [begin[r], begin[r + 1]) of x[index[j]], j ascending: y [rows, d]. Reads
// every listed row of x once, writes (and, accumulating, reads) y once.
template <class T, int kWidth>
__global__ void unpermute_sum_kernel(const T* x, const std::int32_t* begin,
                                     const std::int32_t* index, std::int64_t rows, std::int64_t d,
                                     bool accumulate, T* y) {
  for_each_piece<kWidth>(rows * d, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const std::int64_t row = i / d;
    const std::int64_t column = i % d;
    Pack<T, kHere> sum{};
    for (std::int32_t j = begin[row]; j < begin[row + 1]; ++j) {
      const Pack<T, kHere> term = load_pack<kHere>(x + index[j] * d + column);
      WITAN_UNROLL
      for (int e = 0; e < kHere; ++e) sum.value[e] += term.value[e];
    }
    if (accumulate) {  // the CPU's order: the same bits
      const Pack<T, kHere> before = load_pack<kHere>(y + i);
      WITAN_UNROLL
      for (int e = 0; e < kHere; ++e) sum.value[e] += before.value[e];
    }
    store_pack<kHere>(y + i, sum);
  });
}

std::size_t row_bytes(const TensorView& x) {
  return static_cast<std::size_t>(x.cols()) * size_of(x.dtype);
}

template <class Piece>
std::int64_t pieces_of_row(const TensorView& x) {
  return static_cast<std::int64_t>(row_bytes(x) / sizeof(Piece));
}

}  // namespace

void permute(const Context& ctx, const TensorView& x, const TensorView& index,
             const TensorView& y) {
  const std::int64_t rows = y.rows();
  if (y.size() == 0) return;
  dispatch_piece({row_bytes(x)}, {x.data, y.data}, [&](auto zero) {
    using Piece = decltype(zero);
    const std::int64_t pieces = pieces_of_row<Piece>(x);
    launch(permute_forward_kernel<Piece>, flat_grid(rows * pieces), dim3(kFlatThreads), 0,
           ctx.stream, static_cast<const Piece*>(x.data), index.as<std::int32_t>(), rows, pieces,
           static_cast<Piece*>(y.data));
  });
}

void permute(const Context& ctx, const TensorView& first, const TensorView& second,
             const TensorView& index, const TensorView& y) {
  const std::int64_t rows = y.rows();
  if (y.size() == 0) return;
  dispatch_piece({row_bytes(y)}, {first.data, second.data, y.data}, [&](auto zero) {
    using Piece = decltype(zero);
    const std::int64_t pieces = pieces_of_row<Piece>(y);
    launch(permute_two_kernel<Piece>, flat_grid(rows * pieces), dim3(kFlatThreads), 0, ctx.stream,
           static_cast<const Piece*>(first.data), static_cast<const Piece*>(second.data),
           index.as<std::int32_t>(), first.rows(), rows, pieces, static_cast<Piece*>(y.data));
  });
}

void permute_backward(const Context& ctx, const TensorView& dy, const TensorView& index,
                      const TensorView& dx) {
  const std::int64_t rows = dy.rows();
  if (dy.size() == 0) return;
  dispatch_piece({row_bytes(dy)}, {dy.data, dx.data}, [&](auto zero) {
    using Piece = decltype(zero);
    const std::int64_t pieces = pieces_of_row<Piece>(dy);
    launch(permute_backward_kernel<Piece>, flat_grid(rows * pieces), dim3(kFlatThreads), 0,
           ctx.stream, static_cast<const Piece*>(dy.data), index.as<std::int32_t>(), rows, pieces,
           static_cast<Piece*>(dx.data));
  });
}

void scatter(const Context& ctx, const TensorView& x, const TensorView& index,
             const TensorView& y) {
  fill(ctx, y, 0.0);
  permute_backward(ctx, x, index, y);
}

void unpermute_sum(const Context& ctx, const TensorView& x, const TensorView& begin,
                   const TensorView& index, const TensorView& y, bool accumulate) {
  const std::int64_t rows = y.rows();
  const std::int64_t d = y.cols();
  if (y.size() == 0) return;
  dispatch_float(x.dtype, "unpermute_sum", [&](auto zero) {
    using T = decltype(zero);
    const bool fits = is_aligned(x.data) && is_aligned(y.data) && d % kWidest<T> == 0;
    dispatch_width<T>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(unpermute_sum_kernel<T, kWidth>, flat_grid(rows * d / kWidth), dim3(kFlatThreads), 0,
             ctx.stream, x.as<T>(), begin.as<std::int32_t>(), index.as<std::int32_t>(), rows, d,
             accumulate, y.as<T>());
    });
  });
}

}  // namespace witan::ops::cuda
