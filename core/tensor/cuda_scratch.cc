#include "core/tensor/cuda_scratch.h"

#include <map>
#include <mutex>
#include <utility>

#include "core/base/stream.h"
#include "core/tensor/allocator.h"

namespace witan::cuda {
namespace {

using Key = std::pair<int, void*>;  // device index, stream handle

std::mutex mutex;
std::map<Key, ScratchBuffer> buffers;

}  // namespace

void* scratch(const Context& ctx, std::size_t bytes) {
  const std::lock_guard lock(mutex);
  ScratchBuffer& buffer = buffers[{ctx.device.index, ctx.stream.handle}];
  if (buffer.bytes < bytes) {
    synchronize(ctx);
    device_free(ctx.device, std::exchange(buffer.data, nullptr), std::exchange(buffer.bytes, 0));
    buffer.data = allocate_for("scratch of kernels", ctx.device, bytes);
    buffer.bytes = bytes;
  }
  return buffer.data;
}

ScratchBuffer scratch_of(const Context& ctx) {
  const std::lock_guard lock(mutex);
  const auto found = buffers.find({ctx.device.index, ctx.stream.handle});
  return found == buffers.end() ? ScratchBuffer{} : found->second;
}

void release_scratch(const Context& ctx) {
  const std::lock_guard lock(mutex);
  const auto found = buffers.find({ctx.device.index, ctx.stream.handle});
  if (found == buffers.end()) return;
  synchronize(ctx);
  device_free(ctx.device, found->second.data, found->second.bytes);
  buffers.erase(found);
}

}  // namespace witan::cuda
