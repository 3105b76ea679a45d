// Copies between host and device memory, and within either.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// to = from: equal dtype and shape, no overlap; on the CPU or on ctx.device, either way round. The
// device's part is enqueued on ctx.stream. CPU memory is free again when this returns, and filled
// if it is `to`: a copy to the CPU therefore waits for the stream.
void transfer(const Context& ctx, const TensorView& from, const TensorView& to);

// A copy of `from` on `device`.
Tensor transferred(const Context& ctx, const TensorView& from, Device device);

}  // namespace witan
