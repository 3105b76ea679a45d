// Errors of the CUDA runtime, with its own words for them.
#pragma once

#include <cuda_runtime.h>

#include "core/base/error.h"

// WITAN_CUDA_CHECK(cudaMemcpyAsync(...), "copying ", bytes, " bytes"); throws Error unless
// cudaSuccess. An error of an earlier kernel may show here: the runtime reports it at the next
// call.
#define WITAN_CUDA_CHECK(call, ...)                                                             \
  do {                                                                                          \
    const cudaError_t witan_cuda_status = (call);                                               \
    if (witan_cuda_status != cudaSuccess) [[unlikely]]                                          \
      ::witan::detail::throw_check_failure(                                                     \
          __FILE__, __LINE__, #call,                                                            \
          ::witan::detail::concat(__VA_ARGS__, ": ", cudaGetErrorName(witan_cuda_status), " (", \
                                  cudaGetErrorString(witan_cuda_status), ")"));                 \
  } while (false)
