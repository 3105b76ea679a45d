// The CUDA twins of core/ops/expert_mask.h; operands have been checked, but not the values of
// index tensors.
#pragma once

#include "core/ops/expert_mask.h"

namespace witan::ops::cuda {

void mask_experts(const Context& ctx, const TagExperts& table, const TensorView& tags,
                  const TensorView& z);
void mask_like(const Context& ctx, const TensorView& z, const TensorView& x);
void tag_choices(const Context& ctx, const TagExperts& table, const TensorView& tags,
                 const TensorView& tokens, const TensorView& ranks, const TensorView& indices);

}  // namespace witan::ops::cuda
