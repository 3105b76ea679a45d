// CUDA twin of core/ops/capacity.h; operands have been checked.
#pragma once

#include "core/ops/capacity.h"

namespace witan::ops::cuda {

void keep_places(const Context& ctx, const ExpertPlaces& places, const TensorView& chosen,
                 const TensorView& weights, const TensorView& s, const TensorView& kept);

}  // namespace witan::ops::cuda
