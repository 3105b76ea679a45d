#include "core/base/cuda/built_without_cuda.h"
#include "core/tensor/allocator_cuda.h"
#include "core/tensor/device_memory.h"

namespace witan {

void* cuda_allocate(Device, std::size_t) { cuda::throw_built_without_cuda("memory"); }
void cuda_free(Device, void*) noexcept {}
void* cuda_allocate_pinned(std::size_t) { cuda::throw_built_without_cuda("pinned memory"); }
void cuda_free_pinned(void*) noexcept {}
DeviceMemory device_memory(Device) { cuda::throw_built_without_cuda("memory"); }

}  // namespace witan
