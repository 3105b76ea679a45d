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

void gemm_nn(const Context& ctx, const TensorView& dy, const TensorView& w, const TensorView& dx,
             Accumulate accumulate) {
  check_float("gemm_nn", "dy", dy, 2);
  check_float("gemm_nn", "w", w, 2);
  const std::int64_t m = dy.rows();
  const std::int64_t n = dy.cols();
  const std::int64_t k = w.cols();
  check_operand(ctx, "gemm_nn", "dy", dy, dy.dtype, {m, n});
  check_operand(ctx, "gemm_nn", "w", w, dy.dtype, {n, k});
  check_operand(ctx, "gemm_nn", "dx", dx, dy.dtype, {m, k});
  run(ctx, GemmLayout::kNN, m, k, n, dy, w, dx, accumulate);
}

void gemm_tn(const Context& ctx, const TensorView& dy, const TensorView& x, const TensorView& dw,
             Accumulate accumulate) {
  check_float("gemm_tn", "dy", dy, 2);
  check_float("gemm_tn", "x", x, 2);
  const std::int64_t m = dy.rows();
  const std::int64_t n = dy.cols();
  const std::int64_t k = x.cols();
  check_operand(ctx, "gemm_tn", "dy", dy, dy.dtype, {m, n});
  check_operand(ctx, "gemm_tn", "x", x, dy.dtype, {m, k});
  check_operand(ctx, "gemm_tn", "dw", dw, dy.dtype, {n, k});
  run(ctx, GemmLayout::kTN, n, k, m, dy, x, dw, accumulate);
}

}  // namespace witan::ops
