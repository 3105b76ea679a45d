// The CUDA twins of core/ops/sigmoid_gate.h; operands have been checked by sigmoid_gate.cc.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void sigmoid_gate(const Context& ctx, const TensorView& x, const TensorView& gate,
                  const TensorView& y);

void sigmoid_gate_backward(const Context& ctx, const TensorView& dy, const TensorView& gate,
                           const TensorView& x, const TensorView& dz);

}  // namespace witan::ops::cuda
