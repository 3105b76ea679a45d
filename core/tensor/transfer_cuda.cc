#include "core/tensor/transfer_cuda.h"

#include <cuda_runtime.h>

#include "core/base/cuda/cuda_check.h"

namespace witan::cuda {

void copy_bytes(Stream stream, const void* from, void* to, std::size_t bytes) {
  // Default: the runtime finds out from the addresses which side is the device's.
  WITAN_CUDA_CHECK(
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream.handle)),
      "copying ", bytes, " bytes");
}

}  // namespace witan::cuda
