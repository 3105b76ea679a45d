// Small element-wise operations. float32 or float64 unless said; shapes must agree.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

void fill(const Context& ctx, const TensorView& x, double value);  // any dtype
void copy(const Context& ctx, const TensorView& from,
          const TensorView& to);  // any equal dtype; no overlap
void cast(const Context& ctx, const TensorView& from, const TensorView& to);  // float32 <-> float64
void add(const Context& ctx, const TensorView& a, const TensorView& b,
         const TensorView& y);                                       // y may alias a or b
void scale(const Context& ctx, const TensorView& x, double factor);  // in place

// x as attention reads it: rounded to bfloat16 in place if ctx.products says so, else untouched.
void round_operand(const Context& ctx, const TensorView& x);

// y[r, :] += bias: y [rows, n], bias [n].
void add_bias(const Context& ctx, const TensorView& y, const TensorView& bias);
// dbias += column sums of dy [rows, n].
void bias_backward(const Context& ctx, const TensorView& dy, const TensorView& dbias);

}  // namespace witan::ops
