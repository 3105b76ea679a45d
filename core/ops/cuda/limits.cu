#include "core/ops/cuda/limits.h"

#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/narrow.h"
#include "core/ops/cuda/product.h"

namespace witan::ops::cuda {

void bare_product(const Context& ctx, std::int64_t side, const TensorView& a, const TensorView& b,
                  const TensorView& c) {
  const Cublas cublas = use_cublas(ctx, 0);
  multiply(cublas.handle, product_types(c.dtype, ctx.products), {GemmLayout::kNT, side, side, side},
           a.data, b.data, false, c.data);
}

void make_operand(const Context& ctx, const TensorView& x, const TensorView& operand) {
  if (ctx.products == Products::kBfloat16 && x.dtype == DType::kFloat32) {
    return narrow_operand(ctx, x.as<float>(), x.size(), static_cast<std::uint16_t*>(operand.data));
  }
  copy(ctx, x, operand);
}

}  // namespace witan::ops::cuda
