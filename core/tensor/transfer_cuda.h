// Copies through the CUDA runtime; a build without CUDA has a twin that throws.
#pragma once

#include <cstddef>

#include "core/base/context.h"

namespace witan::cuda {

// Enqueues a copy between any two of host and device memory. A pageable host source has been read
// when this returns; a host target is filled once the stream has been synchronised.
void copy_bytes(Stream stream, const void* from, void* to, std::size_t bytes);

}  // namespace witan::cuda
