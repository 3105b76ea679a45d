// What an op needs besides its tensors: the device it runs on and the stream its work is enqueued
// on.
#pragma once

#include "core/base/device.h"

namespace witan {

// A queue of device work. On the CPU every op has finished when it returns and the handle is null;
// on CUDA the handle is a cudaStream_t and ops only enqueue.
struct Stream {
  void* handle = nullptr;
};

struct Context {
  Device device;
  Stream stream;
};

}  // namespace witan
