// How much memory cuBLAS is given to work in.
#pragma once

#include <cstddef>

namespace witan::ops::cuda {

// What NVIDIA advises for GPUs of this compute capability (its first figure), in bytes: 32 MiB from
// Hopper on, 4 MiB before it.
constexpr std::size_t cublas_workspace_bytes(int major) {
  return (major >= 9 ? std::size_t{32} : std::size_t{4}) << 20;
}

}  // namespace witan::ops::cuda
