#include "core/tensor/transfer.h"

#include <cstring>

#include "core/base/error.h"
#include "core/base/stream.h"
#include "core/tensor/transfer_cuda.h"

namespace witan {

void transfer(const Context& ctx, const TensorView& from, const TensorView& to) {
  WITAN_CHECK(from.dtype == to.dtype && from.shape == to.shape, "transfer of ", name_of(from.dtype),
              from.shape.to_string(), " to ", name_of(to.dtype), to.shape.to_string());
  for (const TensorView& side : {from, to}) {
    WITAN_CHECK(side.device.is_cpu() || side.device == ctx.device,
                "transfer: a tensor of another device than the context's");
  }
  if (from.size() == 0) return;
  if (from.device.is_cpu() && to.device.is_cpu()) {
    std::memcpy(to.data, from.data, from.bytes());
    return;
  }
  cuda::copy_bytes(ctx.stream, from.data, to.data, from.bytes());
  if (to.device.is_cpu()) synchronize(ctx);
}

Tensor transferred(const Context& ctx, const TensorView& from, Device device) {
  Tensor to(from.shape, from.dtype, device);
  transfer(ctx, from, to);
  return to;
}

}  // namespace witan
