#include "core/ops/cpu/scratch.h"

#include "core/tensor/allocator.h"

namespace witan::cpu {
namespace {

struct Buffer {
  void* data = nullptr;
  std::size_t bytes = 0;
  ~Buffer() { device_free({}, data, bytes); }
};

}  // namespace

void* scratch(std::size_t bytes) {
  thread_local Buffer buffer;
  if (bytes > buffer.bytes) {
    device_free({}, buffer.data, buffer.bytes);
    buffer.data = nullptr;
    buffer.bytes = 0;
    buffer.data = device_allocate({}, bytes);
    buffer.bytes = bytes;
  }
  return buffer.data;
}

}  // namespace witan::cpu
