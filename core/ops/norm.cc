#include "core/ops/norm.h"

#include <algorithm>

#include "core/ops/cpu/elementwise_kernels.h"
#include "core/ops/cpu/norm_kernels.h"
#include "core/ops/cpu/row_blocks.h"
#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/norm.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 8192;  // elements per thread below which threads do not pay

std::int64_t grain_rows(std::int64_t d) { return kGrain / (d + 1) + 1; }

void check_rows(const Context& ctx, const char* op, const TensorView& x, const TensorView& w) {
  check_float(op, "x", x, 2);
  check_operand(ctx, op, "x", x, x.dtype, x.shape);
  check_operand(ctx, op, "w", w, x.dtype, {x.cols()});
}

// dw += the partial sums of all blocks, in their order.
template <class T>
void add_partials(const T* partials, std::int64_t blocks, std::int64_t stride, T* dw,
                  std::int64_t d) {
  parallel_ranges(
      d, kGrain / (blocks + 1) + 1,
      [&](std::int64_t begin, std::int64_t end) {
        WITAN_CALL_ISA(sum_partials<T>, partials + begin, blocks, stride, dw + begin, end - begin);
      },
      16);
}

void check_sum(const Context& ctx, const char* op, const TensorView& a, const TensorView& b,
               const TensorView& sum) {
  check_operand(ctx, op, "a", a, sum.dtype, sum.shape);
  check_operand(ctx, op, "b", b, sum.dtype, sum.shape);
}

void check_layernorm(const Context& ctx, const char* op, const TensorView& x, const TensorView& w,
                     const TensorView& b, const TensorView& y, const TensorView& mean,
                     const TensorView& rstd) {
  check_rows(ctx, op, x, w);
  check_operand(ctx, op, "b", b, x.dtype, w.shape);
  check_operand(ctx, op, "y", y, x.dtype, x.shape);
  check_operand(ctx, op, "mean", mean, x.dtype, {x.rows()});
  check_operand(ctx, op, "rstd", rstd, x.dtype, {x.rows()});
}

// sum = a + b and norm(first row, rows), a few rows at a time, so that norm reads them from the
// cache.
template <class T, class Norm>
void add_then(const TensorView& a, const TensorView& b, const TensorView& sum, const Norm& norm) {
  constexpr std::int64_t kElements = 4096;
  const std::int64_t d = sum.cols();
  const std::int64_t step = kElements / (d + 1) + 1;
  const T* left = a.as<T>();
  const T* right = b.as<T>();
  T* total = sum.as<T>();
  parallel_ranges(sum.rows(), grain_rows(d), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; row += step) {
      const std::int64_t rows = std::min(step, end - row);
      WITAN_CALL_ISA(add<T>, left + row * d, right + row * d, total + row * d, rows * d);
      norm(row, rows);
    }
  });
}

}  // namespace

void rmsnorm(const Context& ctx, const TensorView& x, const TensorView& w, double eps,
             const TensorView& y, const TensorView& rstd) {
  check_rows(ctx, "rmsnorm", x, w);
  check_operand(ctx, "rmsnorm", "y", y, x.dtype, x.shape);
  check_operand(ctx, "rmsnorm", "rstd", rstd, x.dtype, {x.rows()});
  if (ctx.device.is_cuda()) return cuda::rmsnorm(ctx, x, w, eps, y, rstd);
  const std::int64_t d = x.cols();
  dispatch_float(x.dtype, "rmsnorm", [&](auto type) {
    using T = decltype(type);
    const T* input = x.as<T>();
    const T* weight = w.as<T>();
    T* output = y.as<T>();
    T* scale = rstd.as<T>();
    parallel_ranges(x.rows(), grain_rows(d), [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(rmsnorm<T>, input + begin * d, weight, eps, output + begin * d, scale + begin,
                     end - begin, d);
    });
  });
}

void add_rmsnorm(const Context& ctx, const TensorView& a, const TensorView& b, const TensorView& w,
                 double eps, const TensorView& sum, const TensorView& y, const TensorView& rstd) {
  check_rows(ctx, "add_rmsnorm", sum, w);
  check_sum(ctx, "add_rmsnorm", a, b, sum);
  check_operand(ctx, "add_rmsnorm", "y", y, sum.dtype, sum.shape);
  check_operand(ctx, "add_rmsnorm", "rstd", rstd, sum.dtype, {sum.rows()});
  if (ctx.device.is_cuda()) return cuda::add_rmsnorm(ctx, a, b, w, eps, sum, y, rstd);
  const std::int64_t d = sum.cols();
  dispatch_float(sum.dtype, "add_rmsnorm", [&](auto type) {
    using T = decltype(type);
    add_then<T>(a, b, sum, [&](std::int64_t row, std::int64_t rows) {
      WITAN_CALL_ISA(rmsnorm<T>, sum.as<T>() + row * d, w.as<T>(), eps, y.as<T>() + row * d,
                     rstd.as<T>() + row, rows, d);
    });
  });
}

void rmsnorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                      const TensorView& w, const TensorView& rstd, const TensorView& dx,
                      Accumulate accumulate_dx, const TensorView& dw) {
  const char* op = "rmsnorm_backward";
  check_rows(ctx, op, x, w);
  check_operand(ctx, op, "dy", dy, x.dtype, x.shape);
  check_operand(ctx, op, "rstd", rstd, x.dtype, {x.rows()});
  check_operand(ctx, op, "dx", dx, x.dtype, x.shape);
  check_operand(ctx, op, "dw", dw, x.dtype, w.shape);
  if (ctx.device.is_cuda()) {
    return cuda::rmsnorm_backward(ctx, dy, x, w, rstd, dx, accumulate_dx, dw);
  }
  const std::int64_t d = x.cols();
  const cpu::RowBlocks blocks(x.rows());
  dispatch_float(x.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* grad = dy.as<T>();
    const T* input = x.as<T>();
    const T* weight = w.as<T>();
    const T* scale = rstd.as<T>();
    T* dinput = dx.as<T>();
    T* partials = cpu::scratch_of<T>(blocks.count * d);
    parallel_ranges(
        blocks.count, grain_rows(d * blocks.rows_each), [&](std::int64_t first, std::int64_t last) {
          for (std::int64_t b = first; b < last; ++b) {
            const std::int64_t begin = blocks.begin(b);
            WITAN_CALL_ISA(rmsnorm_backward<T>, grad + begin * d, input + begin * d, weight,
                           scale + begin, dinput + begin * d, accumulate_dx == Accumulate::kYes,
                           partials + b * d, blocks.end(b) - begin, d);
          }
        });
    add_partials(partials, blocks.count, d, dw.as<T>(), d);
  });
}

void layernorm(const Context& ctx, const TensorView& x, const TensorView& w, const TensorView& b,
               double eps, const TensorView& y, const TensorView& mean, const TensorView& rstd) {
  check_layernorm(ctx, "layernorm", x, w, b, y, mean, rstd);
  if (ctx.device.is_cuda()) return cuda::layernorm(ctx, x, w, b, eps, y, mean, rstd);
  const std::int64_t d = x.cols();
  dispatch_float(x.dtype, "layernorm", [&](auto type) {
    using T = decltype(type);
    const T* input = x.as<T>();
    const T* weight = w.as<T>();
    const T* bias = b.as<T>();
    T* output = y.as<T>();
    T* centre = mean.as<T>();
    T* scale = rstd.as<T>();
    parallel_ranges(x.rows(), grain_rows(d), [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(layernorm<T>, input + begin * d, weight, bias, eps, output + begin * d,
                     centre + begin, scale + begin, end - begin, d);
    });
  });
}

void add_layernorm(const Context& ctx, const TensorView& a, const TensorView& b,
                   const TensorView& w, const TensorView& bias, double eps, const TensorView& sum,
                   const TensorView& y, const TensorView& mean, const TensorView& rstd) {
  check_layernorm(ctx, "add_layernorm", sum, w, bias, y, mean, rstd);
  check_sum(ctx, "add_layernorm", a, b, sum);
  if (ctx.device.is_cuda()) {
    return cuda::add_layernorm(ctx, a, b, w, bias, eps, sum, y, mean, rstd);
  }
  const std::int64_t d = sum.cols();
  dispatch_float(sum.dtype, "add_layernorm", [&](auto type) {
    using T = decltype(type);
    add_then<T>(a, b, sum, [&](std::int64_t row, std::int64_t rows) {
      WITAN_CALL_ISA(layernorm<T>, sum.as<T>() + row * d, w.as<T>(), bias.as<T>(), eps,
                     y.as<T>() + row * d, mean.as<T>() + row, rstd.as<T>() + row, rows, d);
    });
  });
}

void layernorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                        const TensorView& w, const TensorView& mean, const TensorView& rstd,
                        const TensorView& dx, Accumulate accumulate_dx, const TensorView& dw,
                        const TensorView& db) {
  const char* op = "layernorm_backward";
  check_rows(ctx, op, x, w);
  check_operand(ctx, op, "dy", dy, x.dtype, x.shape);
  check_operand(ctx, op, "mean", mean, x.dtype, {x.rows()});
  check_operand(ctx, op, "rstd", rstd, x.dtype, {x.rows()});
  check_operand(ctx, op, "dx", dx, x.dtype, x.shape);
  check_operand(ctx, op, "dw", dw, x.dtype, w.shape);
  check_operand(ctx, op, "db", db, x.dtype, w.shape);
  if (ctx.device.is_cuda()) {
    return cuda::layernorm_backward(ctx, dy, x, w, mean, rstd, dx, accumulate_dx, dw, db);
  }
  const std::int64_t d = x.cols();
  const cpu::RowBlocks blocks(x.rows());
  dispatch_float(x.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* grad = dy.as<T>();
    const T* input = x.as<T>();
    const T* weight = w.as<T>();
    const T* centre = mean.as<T>();
    const T* scale = rstd.as<T>();
    T* dinput = dx.as<T>();
    // Of each block: the partial sums of dw, then those of db.
    T* partials = cpu::scratch_of<T>(blocks.count * 2 * d);
    parallel_ranges(blocks.count, grain_rows(d * blocks.rows_each),
                    [&](std::int64_t first, std::int64_t last) {
                      for (std::int64_t b = first; b < last; ++b) {
                        const std::int64_t begin = blocks.begin(b);
                        T* partial = partials + b * 2 * d;
                        WITAN_CALL_ISA(layernorm_backward<T>, grad + begin * d, input + begin * d,
                                       weight, centre + begin, scale + begin, dinput + begin * d,
                                       accumulate_dx == Accumulate::kYes, partial, partial + d,
                                       blocks.end(b) - begin, d);
                      }
                    });
    add_partials(partials, blocks.count, 2 * d, dw.as<T>(), d);
    add_partials(partials + d, blocks.count, 2 * d, db.as<T>(), d);
  });
}

}  // namespace witan::ops
