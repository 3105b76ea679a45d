// CUDA twin of core/ops/slot_weights.h; operands have been checked.
#pragma once

#include "core/ops/slot_weights.h"

namespace witan::ops::cuda {

void move_weights(const Context& ctx, const TensorView& x, const TensorView& from,
                  const TensorView& y, const TensorView& to);

}  // namespace witan::ops::cuda
