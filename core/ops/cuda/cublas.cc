#include "core/ops/cuda/cublas.h"

#include <vector>

#include "core/base/cuda/stream_cuda.h"
#include "core/ops/cuda/cublas_workspace.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

struct DeviceBlas {
  cublasHandle_t handle = nullptr;
  std::size_t workspace_bytes = 0;
};

// Never destroyed: when a process ends, the driver may be gone before this thread is.
DeviceBlas& blas_of(Device device) {
  thread_local std::vector<DeviceBlas>& all = *new std::vector<DeviceBlas>;
  const auto index = static_cast<std::size_t>(device.index);
  if (all.size() <= index) all.resize(index + 1);
  DeviceBlas& blas = all[index];
  if (blas.handle == nullptr) {
    witan::cuda::use_device(device);
    blas.workspace_bytes = cublas_workspace_bytes(witan::cuda::compute_capability_major(device));
    WITAN_CUBLAS_CHECK(cublasCreate(&blas.handle), "starting cuBLAS on CUDA device ", device.index);
  }
  return blas;
}

}  // namespace

Cublas use_cublas(const Context& ctx, std::size_t scratch_bytes) {
  const DeviceBlas& blas = blas_of(ctx.device);
  auto* memory =
      static_cast<std::byte*>(witan::cuda::scratch(ctx, blas.workspace_bytes + scratch_bytes));
  // The stream first: setting it resets the workspace.
  WITAN_CUBLAS_CHECK(cublasSetStream(blas.handle, static_cast<cudaStream_t>(ctx.stream.handle)),
                     "giving cuBLAS its stream");
  WITAN_CUBLAS_CHECK(cublasSetWorkspace(blas.handle, memory, blas.workspace_bytes),
                     "giving cuBLAS its workspace");
  return {blas.handle, memory + blas.workspace_bytes};
}

}  // namespace witan::ops::cuda
