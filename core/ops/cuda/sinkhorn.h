// CUDA twin of core/ops/sinkhorn.h; operands have been checked. Sums are taken in another order
// than the CPU's, in one that is fixed.
#pragma once

#include "core/ops/sinkhorn.h"

namespace witan::ops::cuda {

void sinkhorn(const Context& ctx, const TensorView& z, std::int64_t iterations,
              const TensorView& p);

}  // namespace witan::ops::cuda
