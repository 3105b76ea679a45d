#include "core/ops/gemm.h"

#include "core/ops/cuda/gemm.h"
#include "core/ops/dispatch.h"
#include "core/ops/gemm_cpu.h"

namespace witan::ops {
namespace {

void run(const Context& ctx, GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
         const TensorView& a, const TensorView& b, const TensorView& c, Accumulate accumulate) {
  if (ctx.device.is_cuda()) return cuda::gemm(ctx, layout, m, n, k, a, b, c, accumulate);
  dispatch_float(a.dtype, "gemm", [&](auto type) {
    using T = decltype(type);
    run_gemm_parallel(choose_gemm_kernel(layout, a.dtype, ctx.products, m, n, k),
                      gemm_task<T>(layout, m, n, k, a.as<T>(), b.as<T>(), c.as<T>(),
                                   accumulate == Accumulate::kYes));
  });
}

}  // namespace

void gemm_nt(const Context& ctx, const TensorView& x, const TensorView& w, const TensorView& y,
             Accumulate accumulate) {
  check_float("gemm_nt", "x", x, 2);
  check_float("gemm_nt", "w", w, 2);
  const std::int64_t m = x.rows();
  const std::int64_t k = x.cols();
  const std::int64_t n = w.rows();
  check_operand(ctx, "gemm_nt", "x", x, x.dtype, {m, k});
  check_operand(ctx, "gemm_nt", "w", w, x.dtype, {n, k});
  check_operand(ctx, "gemm_nt", "y", y, x.dtype, {m, n});
  run(ctx, GemmLayout::kNT, m, n, k, x, w, y, accumulate);
}

namespace {

// Throws unless dy [m, n], w [n, k] and dx [m, k] fit.
void check_nn(const Context& ctx, const char* op, const TensorView& dy, const TensorView& w,
              const TensorView& dx) {
  check_float(op, "dy", dy, 2);
  check_float(op, "w", w, 2);
  check_operand(ctx, op, "dy", dy, dy.dtype, dy.shape);
  check_operand(ctx, op, "w", w, dy.dtype, {dy.cols(), w.cols()});
  check_operand(ctx, op, "dx", dx, dy.dtype, {dy.rows(), w.cols()});
}

// Throws unless dy [m, n], x [m, k] and dw [n, k] fit.
void check_tn(const Context& ctx, const char* op, const TensorView& dy, const TensorView& x,
              const TensorView& dw) {
  check_float(op, "dy", dy, 2);
  check_float(op, "x", x, 2);
  check_operand(ctx, op, "dy", dy, dy.dtype, dy.shape);
  check_operand(ctx, op, "x", x, dy.dtype, {dy.rows(), x.cols()});
  check_operand(ctx, op, "dw", dw, dy.dtype, {dy.cols(), x.cols()});
}

}  // namespace

void gemm_nn(const Context& ctx, const TensorView& dy, const TensorView& w, const TensorView& dx,
             Accumulate accumulate) {
  check_nn(ctx, "gemm_nn", dy, w, dx);
  run(ctx, GemmLayout::kNN, dy.rows(), w.cols(), dy.cols(), dy, w, dx, accumulate);
}

void gemm_tn(const Context& ctx, const TensorView& dy, const TensorView& x, const TensorView& dw,
             Accumulate accumulate) {
  check_tn(ctx, "gemm_tn", dy, x, dw);
  run(ctx, GemmLayout::kTN, dy.cols(), x.cols(), dy.rows(), dy, x, dw, accumulate);
}

void gemm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                   const TensorView& w, const TensorView& dx, const TensorView& dw,
                   Accumulate accumulate_dw) {
  if (ctx.device.is_cuda()) {
    check_nn(ctx, "gemm_backward", dy, w, dx);
    check_tn(ctx, "gemm_backward", dy, x, dw);
    return cuda::gemm_backward(ctx, dy, x, w, dx, dw, accumulate_dw);
  }
  gemm_tn(ctx, dy, x, dw, accumulate_dw);
  gemm_nn(ctx, dy, w, dx);
}

}  // namespace witan::ops
