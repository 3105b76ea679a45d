#include "core/tensor/allocator_cuda.h"

#include <cuda_runtime.h>

#include "core/base/cuda/cuda_check.h"
#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "core/tensor/allocator.h"

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
    std::size_t available = 0;
    std::size_t total = 0;
    WITAN_CUDA_CHECK(cudaMemGetInfo(&available, &total), "asking for the free device memory");
    throw OutOfMemory(detail::concat("out of memory: ", bytes, " bytes asked for on CUDA device ",
                                     device.index, ", ", available, " of ", total, " free"));
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
  WITAN_CUDA_CHECK(cudaMallocHost(&data, bytes), "allocating ", bytes, " bytes of pinned memory");
  return data;
}

void cuda_free_pinned(void* data) noexcept { (void)cudaFreeHost(data); }

}  // namespace witan
