// The CUDA twins of core/ops/zero_experts.h; operands have been checked by zero_experts.cc.
#pragma once

#include "core/ops/zero_experts.h"

namespace witan::ops::cuda {

void zero_experts(const Context& ctx, const ZeroExperts& experts, const ConstantExperts& params,
                  const TensorView& indices, const TensorView& weights, const TensorView& x,
                  const TensorView& y);
void zero_experts_backward(const Context& ctx, const ZeroExperts& experts,
                           const ConstantExperts& params, const TensorView& indices,
                           const TensorView& weights, const TensorView& x, const TensorView& dy,
                           const TensorView& dx, const TensorView& dweights,
                           const ConstantExperts& gradients);
void keep_choices_below(const Context& ctx, std::int64_t experts, const TensorView& indices,
                        const TensorView& kept);

}  // namespace witan::ops::cuda
