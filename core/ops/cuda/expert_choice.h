// CUDA twin of core/ops/expert_choice.h; operands have been checked.
#pragma once

#include "core/ops/expert_choice.h"

namespace witan::ops::cuda {

void expert_choice(const Context& ctx, const TensorView& s, std::int64_t each, std::int64_t first,
                   const TensorView& indices);

}  // namespace witan::ops::cuda
