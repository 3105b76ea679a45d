// Small tables that the host makes for work on the device (biases, coefficients).
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// to = from: float32, float64 or int32 of equal shape; `from` in host memory, `to` on ctx.device.
// On CUDA the values travel as arguments of kernels, 2 KiB in each: unlike transfer() of pageable
// memory this never waits for the stream, and `from` is free again when it returns.
void upload(const Context& ctx, const TensorView& from, const TensorView& to);

}  // namespace witan::ops
