// The CUDA twins of core/ops/two_gates.h; operands have been checked, but not the values of index
// tensors.
#pragma once

#include "core/ops/two_gates.h"

namespace witan::ops::cuda {

void join_gates(const Context& ctx, const TensorView& u, const TensorView& z);
void gate_choices(const Context& ctx, const TwoGates& gates, const TensorView& z,
                  const TensorView& u, const TensorView& indices);
void gate_weights(const Context& ctx, const TwoGates& gates, double scale, const TensorView& z,
                  const TensorView& indices, const TensorView& weights);
void gate_weights_backward(const Context& ctx, const TwoGates& gates, double scale,
                           const TensorView& z, const TensorView& indices,
                           const TensorView& dweights, const TensorView& dz);
void join_gates_backward(const Context& ctx, const TensorView& z, const TensorView& dz,
                         const TensorView& du);

}  // namespace witan::ops::cuda
