// cuBLAS as the products use it: checked calls, and a handle that works on the stream and in the
// scratch of the op that asks for it.
#pragma once

#include <cublas_v2.h>

#include <cstddef>

#include "core/base/context.h"
#include "core/base/error.h"

// WITAN_CUBLAS_CHECK(cublasGemmEx(...), "product of ", m, " rows"); throws Error unless
// CUBLAS_STATUS_SUCCESS, with cuBLAS's own name for what went wrong.
#define WITAN_CUBLAS_CHECK(call, ...)                                                          \
  do {                                                                                         \
    const cublasStatus_t witan_cublas_status = (call);                                         \
    if (witan_cublas_status != CUBLAS_STATUS_SUCCESS) [[unlikely]]                             \
      ::witan::detail::throw_check_failure(                                                    \
          __FILE__, __LINE__, #call,                                                           \
          ::witan::detail::concat(__VA_ARGS__, ": ", cublasGetStatusName(witan_cublas_status), \
                                  " (", cublasGetStatusString(witan_cublas_status), ")"));     \
  } while (false)

namespace witan::ops::cuda {

// Where one product runs: the device's handle, set to ctx.stream and to a workspace of fixed size
// in the stream's scratch, and the rest of that scratch for the op itself. With a workspace of its
// own, cuBLAS's choices, and so the bits, do not depend on what other streams do.
struct Cublas {
  cublasHandle_t handle;
  std::byte* scratch;  // at least the bytes asked for, aligned to 256
};

// A handle is made at the first call of a host thread for a device, and kept.
Cublas use_cublas(const Context& ctx, std::size_t scratch_bytes);

}  // namespace witan::ops::cuda
