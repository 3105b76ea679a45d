// CUDA twins of core/ops/router_noise.h; operands have been checked.
#pragma once

#include "core/ops/router_noise.h"

namespace witan::ops::cuda {

void add_router_noise(const Context& ctx, NoiseScale kind, const RandomAddress& random,
                      std::uint64_t first, const NoisyLogits& logits);
void router_noise_backward(const Context& ctx, const TensorView& dz, const TensorView& dscale,
                           const TensorView& noise, const TensorView& scale, const TensorView& dy);

}  // namespace witan::ops::cuda
