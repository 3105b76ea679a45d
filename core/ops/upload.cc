#include "core/ops/upload.h"

#include <cstring>

#include "core/ops/cuda/words.h"
#include "core/ops/dispatch.h"

namespace witan::ops {

void upload(const Context& ctx, const TensorView& from, const TensorView& to) {
  check_operand(Context{}, "upload", "from", from, from.dtype, from.shape);
  check_operand(ctx, "upload", "to", to, from.dtype, from.shape);
  if (from.size() == 0) return;
  if (ctx.device.is_cuda()) {
    return cuda::upload_bytes(ctx, static_cast<const std::byte*>(from.data), from.bytes(), to.data);
  }
  std::memcpy(to.data, from.data, from.bytes());
}

}  // namespace witan::ops
