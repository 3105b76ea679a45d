// What the twins of CUDA code answer in a build without CUDA.
#pragma once

#include "core/base/error.h"

namespace witan::cuda {

[[noreturn]] inline void throw_built_without_cuda(const char* what) {
  throw_user_error(what, " was asked for on CUDA, but this witan was built without CUDA; ",
                   "configure with -DWITAN_CUDA=ON, or use the CPU backend");
}

}  // namespace witan::cuda
