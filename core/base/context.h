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

// How matrix products and attention read float32 operands: as they are, or rounded to bfloat16
// (nearest even) with sums in float32. No effect on float64.
enum class Products : bool { kFull, kBfloat16 };

struct Context {
  Device device;
  Stream stream;
  Products products = Products::kFull;

  // For what stays in full precision whatever the model computes in: the router.
  Context in_full() const { return {device, stream, Products::kFull}; }
};

}  // namespace witan
