// Reductions to host scalars, accumulated in double over fixed-size blocks, so that the result does
// not depend on the number of threads. On CUDA these synchronise.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

double sum(const Context& ctx, const TensorView& x);
double sum_of_squares(const Context& ctx, const TensorView& x);  // NaN and infinity propagate

}  // namespace witan::ops
