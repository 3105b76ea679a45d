// The router's input jitter (Fedus et al. 2021): every element of a tensor times a factor of its
// own.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/base/philox.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

enum class JitterInto { kOverwrite, kAdd };

// y_i (+)= x_i (1 + size (2 u_i - 1)), u_i = random.uniform(first + i): factors in [1 - size,
// 1 + size). x, y of equal shape, float32 or float64; y may be x. Being diagonal, it is its own
// backward.
void jitter(const Context& ctx, const RandomAddress& random, std::uint64_t first, double size,
            const TensorView& x, const TensorView& y, JitterInto into);

}  // namespace witan::ops
