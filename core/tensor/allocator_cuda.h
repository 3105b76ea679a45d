// Device memory through the CUDA runtime; a build without CUDA has a twin that throws.
#pragma once

#include <cstddef>

#include "core/base/device.h"

namespace witan {

void* cuda_allocate(Device device, std::size_t bytes);
void cuda_free(Device device, void* data) noexcept;

// Page-locked host memory.
void* cuda_allocate_pinned(std::size_t bytes);
void cuda_free_pinned(void* data) noexcept;

}  // namespace witan
