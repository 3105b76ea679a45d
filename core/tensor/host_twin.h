// A tensor in host memory, for code outside the steps of a training run (initialisation,
// checkpoints): itself on the CPU, else memory of its own for as long as the object lives.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor.h"
#include "core/tensor/transfer.h"

namespace witan {

class HostTwin {
 public:
  // Uninitialised where it is a copy. x on ctx.device or in host memory.
  HostTwin(const Context& ctx, const TensorView& x) : ctx_(ctx), x_(x) {
    if (!x.device.is_cpu()) memory_ = Tensor(x.shape, x.dtype);
  }
  const TensorView& view() const { return memory_.empty() ? x_ : memory_.view(); }

  // From the tensor; waits for the stream.
  const HostTwin& read() const {
    if (!memory_.empty()) transfer(ctx_, x_, memory_);
    return *this;
  }
  // To the tensor.
  void write_back() const {
    if (!memory_.empty()) transfer(ctx_, memory_, x_);
  }

 private:
  Context ctx_;
  TensorView x_;
  Tensor memory_;
};

}  // namespace witan
