// The CUDA twins of core/ops/grouped_bias.h; operands have been checked by grouped_bias.cc. The
// offsets are host memory, read before these return.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void grouped_add_bias(const Context& ctx, const TensorView& y,
                      std::span<const std::int64_t> offsets, const TensorView& row_weight,
                      const TensorView& bias);

void grouped_bias_backward(const Context& ctx, const TensorView& dy,
                           std::span<const std::int64_t> offsets, const TensorView& row_weight,
                           const TensorView& bias, const TensorView& dbias,
                           const TensorView& drow_weight);

}  // namespace witan::ops::cuda
