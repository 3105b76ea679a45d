// Row movement on CUDA: pure traffic, so every thread moves the largest pieces that row length and
// alignment allow, neighbouring threads neighbouring pieces.
#include <algorithm>
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/permute.h"

namespace witan::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 65536;  // beyond this, threads take several pieces

// 16 bytes: what one thread loads or stores at most in one instruction.
struct alignas(16) Piece16 {
  std::uint64_t low, high;
};

// to[r] = from[index[r]]: from [n, pieces], to [rows, pieces]
template <class Piece>
__global__ void permute_forward_kernel(const Piece* from, const std::int32_t* index,
                                       std::int64_t rows, std::int64_t pieces, Piece* to) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < rows * pieces; i += stride) {
    to[i] = from[index[i / pieces] * pieces + i % pieces];
  }
}

// to[index[r]] = from[r]; index hits every row at most once, so no two threads write one address
template <class Piece>
__global__ void permute_backward_kernel(const Piece* from, const std::int32_t* index,
                                        std::int64_t rows, std::int64_t pieces, Piece* to) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < rows * pieces; i += stride) {
    to[index[i / pieces] * pieces + i % pieces] = from[i];
  }
}

// y[r] (+)= sum over j in [begin[r], begin[r + 1]) of x[index[j]], j ascending: y [rows, d]
template <class T>
__global__ void unpermute_sum_kernel(const T* x, const std::int32_t* begin,
                                     const std::int32_t* index, std::int64_t rows, std::int64_t d,
                                     bool accumulate, T* y) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < rows * d; i += stride) {
    const std::int64_t row = i / d;
    T sum = 0;
    for (std::int32_t j = begin[row]; j < begin[row + 1]; ++j) sum += x[index[j] * d + i % d];
    y[i] = accumulate ? sum + y[i] : sum;  // the CPU's order: the same bits
  }
}

dim3 grid_over(std::int64_t work) {
  return dim3(static_cast<unsigned>(std::min((work + kThreads - 1) / kThreads, kMaxBlocks)));
}

// Calls f(Piece{}) with the largest type that divides the rows and to which both sides are aligned.
template <class F>
void dispatch_piece(const TensorView& from, const TensorView& to, F&& f) {
  const std::size_t row_bytes = static_cast<std::size_t>(from.cols()) * size_of(from.dtype);
  const auto fits = [&](std::size_t bytes) {
    return row_bytes % bytes == 0 && reinterpret_cast<std::uintptr_t>(from.data) % bytes == 0 &&
           reinterpret_cast<std::uintptr_t>(to.data) % bytes == 0;
  };
  if (fits(sizeof(Piece16))) {
    f(Piece16{});
  } else if (fits(sizeof(std::uint64_t))) {
    f(std::uint64_t{});
  } else {
    f(std::uint32_t{});
  }
}

template <class Piece>
std::int64_t pieces_of_row(const TensorView& x) {
  return x.cols() * static_cast<std::int64_t>(size_of(x.dtype)) /
         static_cast<std::int64_t>(sizeof(Piece));
}

}  // namespace

void permute(const Context& ctx, const TensorView& x, const TensorView& index,
             const TensorView& y) {
  const std::int64_t rows = y.rows();
  if (y.size() == 0) return;
  dispatch_piece(x, y, [&](auto zero) {
    using Piece = decltype(zero);
    const std::int64_t pieces = pieces_of_row<Piece>(x);
    launch(permute_forward_kernel<Piece>, grid_over(rows * pieces), dim3(kThreads), 0, ctx.stream,
           static_cast<const Piece*>(x.data), index.as<std::int32_t>(), rows, pieces,
           static_cast<Piece*>(y.data));
  });
}

void permute_backward(const Context& ctx, const TensorView& dy, const TensorView& index,
                      const TensorView& dx) {
  const std::int64_t rows = dy.rows();
  if (dy.size() == 0) return;
  dispatch_piece(dy, dx, [&](auto zero) {
    using Piece = decltype(zero);
    const std::int64_t pieces = pieces_of_row<Piece>(dy);
    launch(permute_backward_kernel<Piece>, grid_over(rows * pieces), dim3(kThreads), 0, ctx.stream,
           static_cast<const Piece*>(dy.data), index.as<std::int32_t>(), rows, pieces,
           static_cast<Piece*>(dx.data));
  });
}

void unpermute_sum(const Context& ctx, const TensorView& x, const TensorView& begin,
                   const TensorView& index, const TensorView& y, bool accumulate) {
  const std::int64_t rows = y.rows();
  const std::int64_t d = y.cols();
  if (y.size() == 0) return;
  dispatch_float(x.dtype, "unpermute_sum", [&](auto zero) {
    using T = decltype(zero);
    launch(unpermute_sum_kernel<T>, grid_over(rows * d), dim3(kThreads), 0, ctx.stream,
           static_cast<const T*>(x.as<T>()), begin.as<std::int32_t>(), index.as<std::int32_t>(),
           rows, d, accumulate, y.as<T>());
  });
}

}  // namespace witan::ops::cuda
