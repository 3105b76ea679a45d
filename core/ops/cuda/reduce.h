// The CUDA twins of core/ops/reduce.h; operands have been checked by reduce.cc. Those that return
// something wait for ctx.stream.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

double sum(const Context& ctx, const TensorView& x);
double sum_of_squares(const Context& ctx, const TensorView& x);
void add_dot(const Context& ctx, double factor, const TensorView& a, const TensorView& b,
             const TensorView& total);

}  // namespace witan::ops::cuda
