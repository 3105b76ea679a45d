// The CUDA twins of core/ops/elementwise.h; operands have been checked by elementwise.cc.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void fill(const Context& ctx, const TensorView& x, double value);
void copy(const Context& ctx, const TensorView& from, const TensorView& to);
void cast(const Context& ctx, const TensorView& from, const TensorView& to);
void add(const Context& ctx, const TensorView& a, const TensorView& b, const TensorView& y);
void scale(const Context& ctx, const TensorView& x, double factor);
void round_operand(const Context& ctx, const TensorView& x);
void add_bias(const Context& ctx, const TensorView& y, const TensorView& bias);
void bias_backward(const Context& ctx, const TensorView& dy, const TensorView& dbias);

}  // namespace witan::ops::cuda
