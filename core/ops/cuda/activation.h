// The CUDA twins of core/ops/activation.h; operands have been checked by activation.cc. Empty
// row_weight and drow_weight: weight 1.
#pragma once

#include "core/base/context.h"
#include "core/ops/activation.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void activation(const Context& ctx, Activation kind, const TensorView& in,
                const TensorView& row_weight, const TensorView& h, const SwigluOptions& options);

void activation_backward(const Context& ctx, Activation kind, const TensorView& in,
                         const TensorView& row_weight, const TensorView& dh, const TensorView& din,
                         const TensorView& drow_weight, const SwigluOptions& options);

}  // namespace witan::ops::cuda
