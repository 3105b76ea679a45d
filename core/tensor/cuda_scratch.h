// Scratch memory of CUDA kernels. Work on one stream runs in order, so all ops of a stream share
// one buffer, which grows to a high-water mark: a steady step allocates nothing.
#pragma once

#include <cstddef>

#include "core/base/context.h"

namespace witan::cuda {

// At least `bytes` of device memory, valid for kernels that the caller enqueues on ctx.stream
// before the next op does; contents undefined. Growing waits for the stream.
void* scratch(const Context& ctx, std::size_t bytes);

// The scratch of ctx.stream as it is; empty before the first op.
struct ScratchBuffer {
  void* data = nullptr;
  std::size_t bytes = 0;
};
ScratchBuffer scratch_of(const Context& ctx);

// Frees the scratch of ctx.stream after waiting for it; before its stream is destroyed, or at the
// end.
void release_scratch(const Context& ctx);

}  // namespace witan::cuda
