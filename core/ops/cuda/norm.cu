// RMSNorm and LayerNorm on CUDA. One block a row for what is per row; the gradients of weight and
// bias in two stages (column_sums.h). Sums are taken in double, as on the CPU.
#include <cstdint>
#include <initializer_list>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/column_sums.h"
#include "core/ops/cuda/norm.h"
#include "core/ops/cuda/operand.h"
#include "core/ops/cuda/pack.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

// to[j] (+)= value(j) for one piece.
template <int kWidth, class T, class Value>
__device__ void put(T* to, bool accumulate, const Value& value) {
  Pack<T, kWidth> pack{};
  if (accumulate) pack = load_pack<kWidth>(to);
  WITAN_UNROLL
  for (int j = 0; j < kWidth; ++j) {
    pack.value[j] = static_cast<T>(static_cast<double>(pack.value[j]) + value(j));
  }
  store_pack<kWidth>(to, pack);
}

// The input of a norm as it is read first: x, or x + added, which is written to `sum`. Every thread
// reads the pieces that it wrote, so nothing has to be waited for.
template <int kWidth, class T>
__device__ Pack<T, kWidth> read_first(const T* x, const T* added, T* sum, std::int64_t i) {
  Pack<T, kWidth> in = load_pack<kWidth>(x + i);
  if (added == nullptr) return in;
  const Pack<T, kWidth> more = load_pack<kWidth>(added + i);
  WITAN_UNROLL
  for (int j = 0; j < kWidth; ++j) in.value[j] += more.value[j];
  store_pack<kWidth>(sum + i, in);
  return in;
}

// x, y: [rows, d], w: [d], rstd: [rows]; one block a row. 8 bytes an element of float32: the second
// reading of x, and w, come from the cache. With added, sum [rows, d]: of x + added, 16 bytes;
// apart from each other the sum and its norm move 20.
template <class T, int kWidth>
__global__ void rmsnorm_forward_kernel(const T* x, const T* added, const T* w, std::int64_t d,
                                       double eps, T* sum, T* y, T* rstd) {
  WITAN_SHARED(double[kMaxWarps], partial);
  const std::int64_t row = blockIdx.x;
  x += row * d;
  if (added != nullptr) {
    added += row * d;
    sum += row * d;
  }
  y += row * d;
  double squares = 0.0;
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> in = read_first<kWidth>(x, added, sum, i);
    WITAN_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const double value = static_cast<double>(in.value[j]);
      squares += value * value;
    }
  });
  squares = block_sum(squares, partial);
  const double scale = 1.0 / sqrt(squares / static_cast<double>(d) + eps);
  const T* in_again = added == nullptr ? x : sum;
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> in = load_pack<kWidth>(in_again + i);
    const Pack<T, kWidth> weight = load_pack<kWidth>(w + i);
    Pack<T, kWidth> out;
    WITAN_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      out.value[j] = static_cast<T>(static_cast<double>(in.value[j]) * scale *
                                    static_cast<double>(weight.value[j]));
    }
    store_pack<kWidth>(y + i, out);
  });
  if (threadIdx.x == 0) rstd[row] = static_cast<T>(scale);
}

// With g = dy w: dx = rstd g - x rstd^3 mean(g x). One block a row; 12 bytes an element of float32,
// 16 where it accumulates.
template <class T, int kWidth>
__global__ void rmsnorm_backward_dx_kernel(const T* dy, const T* x, const T* w, const T* rstd,
                                           std::int64_t d, bool accumulate, T* dx) {
  WITAN_SHARED(double[kMaxWarps], partial);
  const std::int64_t row = blockIdx.x;
  dy += row * d;
  x += row * d;
  dx += row * d;
  double dot = 0.0;
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> grad = load_pack<kWidth>(dy + i);
    const Pack<T, kWidth> weight = load_pack<kWidth>(w + i);
    const Pack<T, kWidth> in = load_pack<kWidth>(x + i);
    WITAN_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      dot += static_cast<double>(grad.value[j]) * static_cast<double>(weight.value[j]) *
             static_cast<double>(in.value[j]);
    }
  });
  dot = block_sum(dot, partial);
  const double scale = rstd[row];
  const double back = scale * scale * scale * dot / static_cast<double>(d);
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> grad = load_pack<kWidth>(dy + i);
    const Pack<T, kWidth> weight = load_pack<kWidth>(w + i);
    const Pack<T, kWidth> in = load_pack<kWidth>(x + i);
    const auto gradient = [&](int j) {
      return scale * static_cast<double>(grad.value[j]) * static_cast<double>(weight.value[j]) -
             back * static_cast<double>(in.value[j]);
    };
    put<kWidth>(dx + i, accumulate, gradient);
  });
}

// partial_dw [row blocks, d]: sums of dy x rstd over blocks of rows
template <class T>
__global__ void rmsnorm_backward_dw_kernel(const T* dy, const T* x, const T* rstd,
                                           std::int64_t rows, std::int64_t d, double* partial_dw) {
  store_column_partials(rows, d, partial_dw, [&](std::int64_t row, std::int64_t column) {
    return static_cast<double>(dy[row * d + column]) * static_cast<double>(x[row * d + column]) *
           static_cast<double>(rstd[row]);
  });
}

// x, y: [rows, d], w, b: [d], mean, rstd: [rows]; one block a row, 8 bytes an element of float32.
// With added, sum [rows, d]: of x + added, 16 bytes.
template <class T, int kWidth>
__global__ void layernorm_forward_kernel(const T* x, const T* added, const T* w, const T* b,
                                         std::int64_t d, double eps, T* sum, T* y, T* mean,
                                         T* rstd) {
  WITAN_SHARED(double[kMaxWarps], partial_sum);
  WITAN_SHARED(double[kMaxWarps], partial_squares);
  const std::int64_t row = blockIdx.x;
  x += row * d;
  if (added != nullptr) {
    added += row * d;
    sum += row * d;
  }
  y += row * d;
  double total = 0.0;
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> in = read_first<kWidth>(x, added, sum, i);
    WITAN_UNROLL
    for (int j = 0; j < kWidth; ++j) total += static_cast<double>(in.value[j]);
  });
  const double centre = block_sum(total, partial_sum) / static_cast<double>(d);
  const T* in_again = added == nullptr ? x : sum;
  double squares = 0.0;
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> in = load_pack<kWidth>(in_again + i);
    WITAN_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const double value = static_cast<double>(in.value[j]) - centre;
      squares += value * value;
    }
  });
  const double variance = block_sum(squares, partial_squares) / static_cast<double>(d);
  const T shift = static_cast<T>(centre);
  const T scale = static_cast<T>(1.0 / sqrt(variance + eps));
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> in = load_pack<kWidth>(in_again + i);
    const Pack<T, kWidth> weight = load_pack<kWidth>(w + i);
    const Pack<T, kWidth> bias = load_pack<kWidth>(b + i);
    Pack<T, kWidth> out;
    WITAN_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      out.value[j] = (in.value[j] - shift) * scale * weight.value[j] + bias.value[j];
    }
    store_pack<kWidth>(y + i, out);
  });
  if (threadIdx.x == 0) {
    mean[row] = shift;
    rstd[row] = scale;
  }
}

// With g = dy w and n = (x - mean) rstd: dx = rstd (g - mean(g) - n mean(g n)). One block a row; 12
// bytes an element of float32, 16 where it accumulates.
template <class T, int kWidth>
__global__ void layernorm_backward_dx_kernel(const T* dy, const T* x, const T* w, const T* mean,
                                             const T* rstd, std::int64_t d, bool accumulate,
                                             T* dx) {
  WITAN_SHARED(double[kMaxWarps], partial_grad);
  WITAN_SHARED(double[kMaxWarps], partial_dot);
  const std::int64_t row = blockIdx.x;
  dy += row * d;
  x += row * d;
  dx += row * d;
  const double shift = mean[row];
  const double scale = rstd[row];
  double grads = 0.0;
  double dots = 0.0;
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> dout = load_pack<kWidth>(dy + i);
    const Pack<T, kWidth> weight = load_pack<kWidth>(w + i);
    const Pack<T, kWidth> in = load_pack<kWidth>(x + i);
    WITAN_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const double grad = static_cast<double>(dout.value[j]) * static_cast<double>(weight.value[j]);
      grads += grad;
      dots += grad * ((static_cast<double>(in.value[j]) - shift) * scale);
    }
  });
  const double mean_grad = block_sum(grads, partial_grad) / static_cast<double>(d);
  const double mean_dot = block_sum(dots, partial_dot) / static_cast<double>(d);
  for_each_piece_of_row<kWidth>(d, [&](std::int64_t i) {
    const Pack<T, kWidth> dout = load_pack<kWidth>(dy + i);
    const Pack<T, kWidth> weight = load_pack<kWidth>(w + i);
    const Pack<T, kWidth> in = load_pack<kWidth>(x + i);
    const auto gradient = [&](int j) {
      const double grad = static_cast<double>(dout.value[j]) * static_cast<double>(weight.value[j]);
      const double normed = (static_cast<double>(in.value[j]) - shift) * scale;
      return scale * (grad - mean_grad - normed * mean_dot);
    };
    put<kWidth>(dx + i, accumulate, gradient);
  });
}

// partial_dw, partial_db [row blocks, d]: sums of dy (x - mean) rstd and of dy over blocks of rows
template <class T>
__global__ void layernorm_backward_dw_kernel(const T* dy, const T* x, const T* mean, const T* rstd,
                                             std::int64_t rows, std::int64_t d, double* partial_dw,
                                             double* partial_db) {
  store_column_partials(rows, d, partial_dw, [&](std::int64_t row, std::int64_t column) {
    const std::int64_t i = row * d + column;
    return static_cast<double>(dy[i]) *
           ((static_cast<double>(x[i]) - static_cast<double>(mean[row])) *
            static_cast<double>(rstd[row]));
  });
  store_column_partials(rows, d, partial_db, [&](std::int64_t row, std::int64_t column) {
    return static_cast<double>(dy[row * d + column]);
  });
}

// f(Width<w>{}) with pieces of 16 bytes where d and the addresses of all operands allow them.
template <class T, class F>
void dispatch_rows(std::int64_t d, std::initializer_list<TensorView> operands, const F& f) {
  bool fits = d % kWidest<T> == 0;
  for (const TensorView& x : operands) fits = fits && is_aligned(x.data);
  dispatch_width<T>(fits, f);
}

// Of x, or with `added` of x + added, which goes to sum.
void start_rmsnorm(const Context& ctx, const TensorView& x, const TensorView& added,
                   const TensorView& w, double eps, const TensorView& sum, const TensorView& y,
                   const TensorView& rstd) {
  const std::int64_t rows = x.rows();
  const std::int64_t d = x.cols();
  if (rows == 0 || d == 0) return;
  dispatch_float(x.dtype, "rmsnorm", [&](auto zero) {
    using T = decltype(zero);
    dispatch_rows<T>(d, {x, added, w, sum, y}, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(rmsnorm_forward_kernel<T, kWidth>, dim3(grid_extent(rows, kMaxGridX)),
             row_block(d / kWidth), 0, ctx.stream, x.as<T>(), data_or_null<T>(added), w.as<T>(), d,
             eps, data_or_null<T>(sum), y.as<T>(), rstd.as<T>());
    });
  });
}

void start_layernorm(const Context& ctx, const TensorView& x, const TensorView& added,
                     const TensorView& w, const TensorView& b, double eps, const TensorView& sum,
                     const TensorView& y, const TensorView& mean, const TensorView& rstd) {
  const std::int64_t rows = x.rows();
  const std::int64_t d = x.cols();
  if (rows == 0 || d == 0) return;
  dispatch_float(x.dtype, "layernorm", [&](auto zero) {
    using T = decltype(zero);
    dispatch_rows<T>(d, {x, added, w, b, sum, y}, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(layernorm_forward_kernel<T, kWidth>, dim3(grid_extent(rows, kMaxGridX)),
             row_block(d / kWidth), 0, ctx.stream, x.as<T>(), data_or_null<T>(added), w.as<T>(),
             b.as<T>(), d, eps, data_or_null<T>(sum), y.as<T>(), mean.as<T>(), rstd.as<T>());
    });
  });
}

}  // namespace

void rmsnorm(const Context& ctx, const TensorView& x, const TensorView& w, double eps,
             const TensorView& y, const TensorView& rstd) {
  start_rmsnorm(ctx, x, {}, w, eps, {}, y, rstd);
}

void add_rmsnorm(const Context& ctx, const TensorView& a, const TensorView& b, const TensorView& w,
                 double eps, const TensorView& sum, const TensorView& y, const TensorView& rstd) {
  start_rmsnorm(ctx, a, b, w, eps, sum, y, rstd);
}

void rmsnorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                      const TensorView& w, const TensorView& rstd, const TensorView& dx,
                      Accumulate accumulate_dx, const TensorView& dw) {
  const std::int64_t rows = x.rows();
  const std::int64_t d = x.cols();
  if (rows == 0 || d == 0) return;
  auto* partial_dw = static_cast<double*>(witan::cuda::scratch(
      ctx, static_cast<std::size_t>(row_blocks_of(rows) * d) * sizeof(double)));
  dispatch_float(x.dtype, "rmsnorm_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(rmsnorm_backward_dw_kernel<T>, column_grid(rows, d), column_block(), 0, ctx.stream,
           dy.as<T>(), x.as<T>(), rstd.as<T>(), rows, d, partial_dw);
    add_partials(ctx.stream, partial_dw, rows, d, true, dw.as<T>());
    dispatch_rows<T>(d, {dy, x, w, dx}, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(rmsnorm_backward_dx_kernel<T, kWidth>, dim3(grid_extent(rows, kMaxGridX)),
             row_block(d / kWidth), 0, ctx.stream, dy.as<T>(), x.as<T>(), w.as<T>(), rstd.as<T>(),
             d, accumulate_dx == Accumulate::kYes, dx.as<T>());
    });
  });
}

void layernorm(const Context& ctx, const TensorView& x, const TensorView& w, const TensorView& b,
               double eps, const TensorView& y, const TensorView& mean, const TensorView& rstd) {
  start_layernorm(ctx, x, {}, w, b, eps, {}, y, mean, rstd);
}

void add_layernorm(const Context& ctx, const TensorView& a, const TensorView& b,
                   const TensorView& w, const TensorView& bias, double eps, const TensorView& sum,
                   const TensorView& y, const TensorView& mean, const TensorView& rstd) {
  start_layernorm(ctx, a, b, w, bias, eps, sum, y, mean, rstd);
}

void layernorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                        const TensorView& w, const TensorView& mean, const TensorView& rstd,
                        const TensorView& dx, Accumulate accumulate_dx, const TensorView& dw,
                        const TensorView& db) {
  const std::int64_t rows = x.rows();
  const std::int64_t d = x.cols();
  if (rows == 0 || d == 0) return;
  const std::int64_t partials = row_blocks_of(rows) * d;
  auto* partial_dw = static_cast<double*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(2 * partials) * sizeof(double)));
  double* partial_db = partial_dw + partials;
  dispatch_float(x.dtype, "layernorm_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(layernorm_backward_dw_kernel<T>, column_grid(rows, d), column_block(), 0, ctx.stream,
           dy.as<T>(), x.as<T>(), mean.as<T>(), rstd.as<T>(), rows, d, partial_dw, partial_db);
    add_partials(ctx.stream, partial_dw, rows, d, true, dw.as<T>());
    add_partials(ctx.stream, partial_db, rows, d, true, db.as<T>());
    dispatch_rows<T>(d, {dy, x, w, dx}, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(layernorm_backward_dx_kernel<T, kWidth>, dim3(grid_extent(rows, kMaxGridX)),
             row_block(d / kWidth), 0, ctx.stream, dy.as<T>(), x.as<T>(), w.as<T>(), mean.as<T>(),
             rstd.as<T>(), d, accumulate_dx == Accumulate::kYes, dx.as<T>());
    });
  });
}

}  // namespace witan::ops::cuda
