// Reductions to host scalars, accumulated in double over fixed-size blocks, so that the result does
// not depend on the number of threads. On CUDA those that return something synchronise.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

double sum(const Context& ctx, const TensorView& x);
double sum_of_squares(const Context& ctx, const TensorView& x);  // NaN and infinity propagate

// total [1] float64, on ctx.device, += factor * sum_i a_i b_i, in double and in a fixed order. b:
// float32 or float64; a of equal shape, of b's type or float64. Nothing waits: figures of a run add
// up on the device until somebody asks.
void add_dot(const Context& ctx, double factor, const TensorView& a, const TensorView& b,
             const TensorView& total);

}  // namespace witan::ops
