// CUDA twin of core/ops/jitter.h; operands have been checked.
#pragma once

#include "core/ops/jitter.h"

namespace witan::ops::cuda {

void jitter(const Context& ctx, const RandomAddress& random, std::uint64_t first, double size,
            const TensorView& x, const TensorView& y, JitterInto into);

}  // namespace witan::ops::cuda
