#include "core/ops/gemm.h"

#include "core/ops/cuda/gemm.h"
#include "core/ops/dispatch.h"
#include "core/ops/gemm_cpu.h"

namespace witan::ops {
namespace {

void run(const Context& ctx, GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
         const TensorView& a, const TensorView& b, const TensorView& c, Accumulate accumulate) {
  if (ctx.device.is_cuda()) return cuda::gemm(ctx, layout, m, n, k, a, b, c, accumulate);
  const TensorView left = as_read(ctx, a);
  const TensorView right = as_read(ctx, b);
  dispatch_operands(left, right, [&](auto a_value, auto b_value) {
    using A = decltype(a_value);
    using B = decltype(b_value);
    using T = SumOf<A>;
    run_gemm_parallel(choose_gemm_kernel(layout, c.dtype, ctx.products, m, n, k),
                      gemm_task<T, A, B>(layout, m, n, k, left.as<A>(), right.as<B>(), c.as<T>(),
                                         accumulate == Accumulate::kYes));
  });
}

}  // namespace

DType operand_dtype(const Context& ctx, DType dtype) {
  const bool rounded = ctx.device.is_cpu() && ctx.products == Products::kBfloat16;
  return rounded && dtype == DType::kFloat32 ? DType::kBfloat16 : dtype;
}

void gemm_nt(const Context& ctx, const TensorView& x, const TensorView& w, const TensorView& y,
             Accumulate accumulate) {
  check_float("gemm_nt", "y", y, 2);
  const std::int64_t m = x.rows();
  const std::int64_t k = x.cols();
  const std::int64_t n = w.rows();
  check_factor(ctx, "gemm_nt", "x", x, y.dtype, {m, k});
  check_factor(ctx, "gemm_nt", "w", w, y.dtype, {n, k});
  check_operand(ctx, "gemm_nt", "y", y, y.dtype, {m, n});
  run(ctx, GemmLayout::kNT, m, n, k, x, w, y, accumulate);
}

namespace {

// Throws unless dy [m, n], w [n, k] and dx [m, k] fit.
void check_nn(const Context& ctx, const char* op, const TensorView& dy, const TensorView& w,
              const TensorView& dx) {
  check_float(op, "dx", dx, 2);
  check_factor(ctx, op, "dy", dy, dx.dtype, {dy.rows(), dy.cols()});
  check_factor(ctx, op, "w", w, dx.dtype, {dy.cols(), w.cols()});
  check_operand(ctx, op, "dx", dx, dx.dtype, {dy.rows(), w.cols()});
}

// Throws unless dy [m, n], x [m, k] and dw [n, k] fit.
void check_tn(const Context& ctx, const char* op, const TensorView& dy, const TensorView& x,
              const TensorView& dw) {
  check_float(op, "dw", dw, 2);
  check_factor(ctx, op, "dy", dy, dw.dtype, {dy.rows(), dy.cols()});
  check_factor(ctx, op, "x", x, dw.dtype, {dy.rows(), x.cols()});
  check_operand(ctx, op, "dw", dw, dw.dtype, {dy.cols(), x.cols()});
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
