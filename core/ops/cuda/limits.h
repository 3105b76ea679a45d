// What a GPU can do at best: products without anything around them, the yardstick of `witan bench`.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

// c = a b^T of squares [side, side] by one call of cuBLAS in ctx.products, on operands that lie
// ready in the type that it multiplies: a and b are what make_operand() left. c has the type of the
// tensors. Takes the stream's scratch, waits for nothing.
void bare_product(const Context& ctx, std::int64_t side, const TensorView& a, const TensorView& b,
                  const TensorView& c);

// x [side, side] as bare_product() reads it, in `operand`, a tensor of the same shape and type:
// with bfloat16 products its first half holds x rounded.
void make_operand(const Context& ctx, const TensorView& x, const TensorView& operand);

}  // namespace witan::ops::cuda
