#include "core/tensor/host_copy.h"

#include <algorithm>

#include "core/tensor/pinned_blocks.h"
#include "core/tensor/transfer_cuda.h"

namespace witan {

HostCopy::~HostCopy() {
  if (memory_ == nullptr) return;
  wait();
  PinnedBlocks().release(memory_);
}

void HostCopy::begin(const Context& ctx, const TensorView& x) {
  wait();
  if (memory_ == nullptr || x.bytes() > bytes_) {
    if (memory_ != nullptr) PinnedBlocks().release(memory_);
    memory_ = nullptr;
    bytes_ = std::max<std::size_t>(x.bytes(), 1);
    memory_ = PinnedBlocks().allocate(bytes_);
  }
  copy_ = {memory_, x.shape, x.dtype, Device{}};
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
