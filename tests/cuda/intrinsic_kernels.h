// Kernels that multiply small matrices by the instructions of device_intrinsics.h.
#pragma once

#include <cstdint>

#include "core/base/context.h"

namespace witan::test {

// By one warp: scores [16, 32] = a [16, 32] b^T for b [32, 32], and sums [16, 32] = scores b, all
// rounded to bfloat16 before they are multiplied; a and b: bfloat16 bits.
void multiply_by_mma(const Context& ctx, const std::uint16_t* a, const std::uint16_t* b,
                     float* scores, float* sums);

}  // namespace witan::test
