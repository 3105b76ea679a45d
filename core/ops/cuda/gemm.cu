#include "core/ops/cuda/gemm.h"

#include "core/ops/cuda/product.h"

namespace witan::ops::cuda {

void gemm(const Context& ctx, GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
          const TensorView& a, const TensorView& b, const TensorView& c, Accumulate accumulate) {
  const bool add = accumulate == Accumulate::kYes;
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (!add) zero_bytes(ctx, c.data, c.bytes());
    return;
  }
  const ProductShape shape{layout, m, n, k};
  const ProductTypes types = product_types(a.dtype, ctx.products);
  if (types.operand != CUDA_R_16BF) {
    return multiply(use_cublas(ctx, 0).handle, types, shape, a.data, b.data, add, c.data);
  }
  const RoundedOperands rounded(ctx, {a, b});
  multiply(rounded.handle(), types, shape, rounded[0], rounded[1], add, c.data);
}

void gemm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                   const TensorView& w, const TensorView& dx, const TensorView& dw,
                   Accumulate accumulate_dw) {
  const std::int64_t m = dy.rows();
  const std::int64_t n = dy.cols();
  const std::int64_t k = x.cols();
  const ProductTypes types = product_types(dy.dtype, ctx.products);
  if (types.operand != CUDA_R_16BF || m == 0 || n == 0 || k == 0) {
    gemm(ctx, GemmLayout::kTN, n, k, m, dy, x, dw, accumulate_dw);
    gemm(ctx, GemmLayout::kNN, m, k, n, dy, w, dx, Accumulate::kNo);
    return;
  }
  const RoundedOperands rounded(ctx, {dy, x, w});
  multiply(rounded.handle(), types, {GemmLayout::kTN, n, k, m}, rounded[0], rounded[1],
           accumulate_dw == Accumulate::kYes, dw.data);
  multiply(rounded.handle(), types, {GemmLayout::kNN, m, k, n}, rounded[0], rounded[2], false,
           dx.data);
}

}  // namespace witan::ops::cuda
