#include "core/tensor/allocator_cuda.h"

#include <cuda_runtime.h>

#include "core/base/cuda/cuda_check.h"
#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "core/tensor/device_memory.h"

namespace witan {
namespace {

// The granularity of cudaMalloc, so that a tensor without elements also has an address.
constexpr std::size_t kSmallest = 256;

}  // namespace

void* cuda_allocate(Device device, std::size_t bytes) {
  cuda::use_device(device);
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes == 0 ? kSmallest : bytes);
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // not sticky: the device is still usable
    throw_out_of_device_memory("", device, bytes);
  }
  WITAN_CUDA_CHECK(status, "allocating ", bytes, " bytes");
  return data;
}

void cuda_free(Device, void* data) noexcept {
  // An error here is a kernel's that ran before, and it shows at the next checked call.
  (void)cudaFree(data);
}

void* cuda_allocate_pinned(std::size_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMallocHost(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    throw OutOfMemory(detail::concat(
        "out of memory: ", bytes,
        " bytes of pinned host memory asked for, which the machine does not have free, or does not "
        "let this process lock (ulimit -l)"));
  }
  WITAN_CUDA_CHECK(status, "allocating ", bytes, " bytes of pinned memory");
  return data;
}

DeviceMemory device_memory(Device device) {
  cuda::use_device(device);
  DeviceMemory memory;
  WITAN_CUDA_CHECK(cudaMemGetInfo(&memory.available, &memory.total),
                   "asking for the free memory of CUDA device ", device.index);
  return memory;
}

void cuda_free_pinned(void* data) noexcept { (void)cudaFreeHost(data); }

}  // namespace witan
