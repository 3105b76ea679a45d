// Element-wise kernels: nothing but traffic, in pieces of 16 bytes where alignment allows. The
// bytes stated are for n elements of float32.
#include "core/ops/cuda/elementwise.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/bfloat16.h"
#include "core/ops/cuda/column_sums.h"
#include "core/ops/cuda/pack.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/transfer_cuda.h"

namespace witan::ops::cuda {
namespace {

// 4 n bytes
template <class T, int kWidth>
__global__ void fill_kernel(std::int64_t n, T value, T* x) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    Pack<T, kHere> pack;
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) pack.value[j] = value;
    store_pack<kHere>(x + i, pack);
  });
}

// 12 n bytes: 4 on the side of the float, 8 on that of the double
template <class From, class To, int kWidth>
__global__ void cast_kernel(const From* from, std::int64_t n, To* to) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const Pack<From, kHere> in = load_pack<kHere>(from + i);
    Pack<To, kHere> out;
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) out.value[j] = static_cast<To>(in.value[j]);
    store_pack<kHere>(to + i, out);
  });
}

// 12 n bytes
template <class T, int kWidth>
__global__ void add_kernel(const T* a, const T* b, std::int64_t n, T* y) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const Pack<T, kHere> left = load_pack<kHere>(a + i);
    const Pack<T, kHere> right = load_pack<kHere>(b + i);
    Pack<T, kHere> sum;
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) sum.value[j] = left.value[j] + right.value[j];
    store_pack<kHere>(y + i, sum);
  });
}

// 8 n bytes
template <class T, int kWidth>
__global__ void scale_kernel(std::int64_t n, T factor, T* x) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    Pack<T, kHere> pack = load_pack<kHere>(x + i);
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) pack.value[j] *= factor;
    store_pack<kHere>(x + i, pack);
  });
}

// 8 n bytes
template <int kWidth>
__global__ void round_operand_kernel(std::int64_t n, float* x) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    Pack<float, kHere> pack = load_pack<kHere>(x + i);
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) pack.value[j] = round_to_bfloat16(pack.value[j]);
    store_pack<kHere>(x + i, pack);
  });
}

// y [.., columns] += bias [columns], n elements of y: 8 n bytes, since the bias stays in the cache.
template <class T, int kWidth>
__global__ void add_bias_kernel(const T* bias, std::int64_t n, std::int64_t columns, T* y) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const Pack<T, kHere> shift = load_pack<kHere>(bias + i % columns);
    Pack<T, kHere> pack = load_pack<kHere>(y + i);
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) pack.value[j] += shift.value[j];
    store_pack<kHere>(y + i, pack);
  });
}

// partial [row blocks, columns]: the sums of dy [rows, columns] over blocks of rows; 4 n bytes
template <class T>
__global__ void bias_backward_kernel(const T* dy, std::int64_t rows, std::int64_t columns,
                                     double* partial) {
  store_column_partials(rows, columns, partial, [&](std::int64_t row, std::int64_t column) {
    return static_cast<double>(dy[row * columns + column]);
  });
}

template <class T>
void fill_of(const Context& ctx, const TensorView& x, T value) {
  dispatch_width<T>(is_aligned(x.data), [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    launch(fill_kernel<T, kWidth>, flat_grid(x.size() / kWidth), dim3(kFlatThreads), 0, ctx.stream,
           x.size(), value, x.as<T>());
  });
}

template <class From, class To>
void cast_of(const Context& ctx, const TensorView& from, const TensorView& to) {
  // Pieces of four: 16 bytes of float, twice 16 of double.
  dispatch_width<float>(is_aligned(from.data) && is_aligned(to.data), [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    launch(cast_kernel<From, To, kWidth>, flat_grid(from.size() / kWidth), dim3(kFlatThreads), 0,
           ctx.stream, from.as<From>(), from.size(), to.as<To>());
  });
}

}  // namespace

void fill(const Context& ctx, const TensorView& x, double value) {
  if (x.size() == 0) return;
  switch (x.dtype) {
    case DType::kFloat32: return fill_of(ctx, x, static_cast<float>(value));
    case DType::kFloat64: return fill_of(ctx, x, value);
    case DType::kInt32: return fill_of(ctx, x, static_cast<std::int32_t>(value));
    case DType::kInt64: return fill_of(ctx, x, static_cast<std::int64_t>(value));
    case DType::kBfloat16: WITAN_CHECK(false, "fill: x: operands in bfloat16 are never filled");
  }
}

void copy(const Context& ctx, const TensorView& from, const TensorView& to) {
  if (from.size() == 0) return;
  witan::cuda::copy_bytes(ctx.stream, from.data, to.data, from.bytes());
}

void cast(const Context& ctx, const TensorView& from, const TensorView& to) {
  if (from.size() == 0) return;
  if (from.dtype == DType::kFloat32) return cast_of<float, double>(ctx, from, to);
  cast_of<double, float>(ctx, from, to);
}

void add(const Context& ctx, const TensorView& a, const TensorView& b, const TensorView& y) {
  if (a.size() == 0) return;
  dispatch_float(a.dtype, "add", [&](auto zero) {
    using T = decltype(zero);
    const bool fits = is_aligned(a.data) && is_aligned(b.data) && is_aligned(y.data);
    dispatch_width<T>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(add_kernel<T, kWidth>, flat_grid(a.size() / kWidth), dim3(kFlatThreads), 0, ctx.stream,
             a.as<T>(), b.as<T>(), a.size(), y.as<T>());
    });
  });
}

void scale(const Context& ctx, const TensorView& x, double factor) {
  if (x.size() == 0) return;
  dispatch_float(x.dtype, "scale", [&](auto zero) {
    using T = decltype(zero);
    dispatch_width<T>(is_aligned(x.data), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(scale_kernel<T, kWidth>, flat_grid(x.size() / kWidth), dim3(kFlatThreads), 0,
             ctx.stream, x.size(), static_cast<T>(factor), x.as<T>());
    });
  });
}

void round_operand(const Context& ctx, const TensorView& x) {
  if (ctx.products == Products::kFull || x.dtype != DType::kFloat32 || x.size() == 0) return;
  dispatch_width<float>(is_aligned(x.data), [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    launch(round_operand_kernel<kWidth>, flat_grid(x.size() / kWidth), dim3(kFlatThreads), 0,
           ctx.stream, x.size(), x.as<float>());
  });
}

void add_bias(const Context& ctx, const TensorView& y, const TensorView& bias) {
  if (y.size() == 0) return;
  dispatch_float(y.dtype, "add_bias", [&](auto zero) {
    using T = decltype(zero);
    const bool fits = is_aligned(y.data) && is_aligned(bias.data) && y.cols() % kWidest<T> == 0;
    dispatch_width<T>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(add_bias_kernel<T, kWidth>, flat_grid(y.size() / kWidth), dim3(kFlatThreads), 0,
             ctx.stream, bias.as<T>(), y.size(), y.cols(), y.as<T>());
    });
  });
}

void bias_backward(const Context& ctx, const TensorView& dy, const TensorView& dbias) {
  const std::int64_t rows = dy.rows();
  const std::int64_t columns = dy.cols();
  if (dy.size() == 0) return;
  auto* partial = static_cast<double*>(witan::cuda::scratch(
      ctx, static_cast<std::size_t>(row_blocks_of(rows) * columns) * sizeof(double)));
  dispatch_float(dy.dtype, "bias_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(bias_backward_kernel<T>, column_grid(rows, columns), column_block(), 0, ctx.stream,
           dy.as<T>(), rows, columns, partial);
    add_partials(ctx.stream, partial, rows, columns, true, dbias.as<T>());
  });
}

}  // namespace witan::ops::cuda
