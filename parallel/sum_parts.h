// The sum of a reduce-scatter, in the order of the ranks.
#pragma once

#include "core/tensor/tensor_view.h"

namespace witan {

// sum [n] = part 0 + part 1 + ... over `ranks` parts of n elements: this rank's own_part [1, n]
// stands at its place `rank` among the others in arrived [ranks - 1, n]. sum may be own_part.
void sum_parts(const TensorView& own_part, const TensorView& arrived, int rank, int ranks,
               const TensorView& sum);

}  // namespace witan
