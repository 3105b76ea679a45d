// CUDA twins of core/ops/smooth_load.h; operands have been checked.
#pragma once

#include "core/ops/smooth_load.h"

namespace witan::ops::cuda {

void smooth_load(const Context& ctx, const NoisyChoice& choice, const NoisyLogits& logits,
                 const TensorView& sums);
void smooth_load_backward(const Context& ctx, const NoisyChoice& choice, double factor,
                          const NoisyLogits& logits, const TensorView& gradient,
                          const TensorView& dz, const TensorView& dclean_z,
                          const TensorView& dscale);

}  // namespace witan::ops::cuda
