#include "core/tensor/host_copy.h"

#include "core/tensor/transfer_cuda.h"

namespace witan {

void HostCopy::begin(const Context& ctx, const TensorView& x) {
  wait();
  memory_.reset();
  copy_ = memory_.allocate(x.shape, x.dtype);
  if (x.size() == 0) return;
  if (!arrived_) arrived_.emplace(ctx.device);
  cuda::copy_bytes(ctx.stream, x.data, copy_.data, x.bytes());
  arrived_->record(ctx);
  travelling_ = true;
}

const TensorView& HostCopy::wait() {
  if (travelling_) arrived_->synchronize();
  travelling_ = false;
  return copy_;
}

}  // namespace witan
