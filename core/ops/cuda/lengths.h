// The lengths of cached sequences, which the host knows, where kernels can read them.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/tensor_view.h"
#include "core/tensor/transfer.h"

namespace witan::ops::cuda {

// lengths [batch] int32 on the CPU, copied to the scratch of ctx.stream.
inline const std::int32_t* lengths_on_device(const Context& ctx, const TensorView& lengths) {
  TensorView copy = lengths;
  copy.data = witan::cuda::scratch(ctx, lengths.bytes());
  copy.device = ctx.device;
  transfer(ctx, lengths, copy);
  return copy.as<std::int32_t>();
}

}  // namespace witan::ops::cuda
