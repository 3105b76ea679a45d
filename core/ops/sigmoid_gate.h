// A gate for each row (the shared expert of Qwen1.5-MoE): y[r, :] = sigmoid(z[r]) x[r, :]. float32
// or float64, all operands of one type.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// x, y [rows, d]; gate [rows]: in the logits z, out sigmoid(z). y may not alias x.
void sigmoid_gate(const Context& ctx, const TensorView& x, const TensorView& gate,
                  const TensorView& y);

// gate [rows] from the forward; x becomes dx = gate dy; dz [rows] = gate (1 - gate) dy . x, the dot
// product in double.
void sigmoid_gate_backward(const Context& ctx, const TensorView& dy, const TensorView& gate,
                           const TensorView& x, const TensorView& dz);

}  // namespace witan::ops
