// Errors of NCCL, with its own words for them.
#pragma once

#include <nccl.h>

#include "core/base/error.h"

// WITAN_NCCL_CHECK(ncclGroupEnd(), comm, "sending ", rows, " rows"); throws Error unless
// ncclSuccess.
#define WITAN_NCCL_CHECK(call, comm, ...)                                                         \
  do {                                                                                            \
    const ncclResult_t witan_nccl_status = (call);                                                \
    if (witan_nccl_status != ncclSuccess) [[unlikely]]                                            \
      ::witan::detail::throw_check_failure(                                                       \
          __FILE__, __LINE__, #call,                                                              \
          ::witan::detail::concat(__VA_ARGS__, ": ", ncclGetErrorString(witan_nccl_status), " (", \
                                  ncclGetLastError(comm), ")"));                                  \
  } while (false)
