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
  const Cublas blas = use_cublas(ctx, bfloat16_bytes(a.size()) + bfloat16_bytes(b.size()));
  auto* a_rounded = reinterpret_cast<std::uint16_t*>(blas.scratch);
  auto* b_rounded = reinterpret_cast<std::uint16_t*>(blas.scratch + bfloat16_bytes(a.size()));
  narrow_operand(ctx, a.as<float>(), a.size(), a_rounded);
  narrow_operand(ctx, b.as<float>(), b.size(), b_rounded);
  multiply(blas.handle, types, shape, a_rounded, b_rounded, add, c.data);
}

}  // namespace witan::ops::cuda
