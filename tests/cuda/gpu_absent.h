// What programs that need a GPU ask first.
#pragma once

#include <cstdio>

#include "core/base/cuda/stream_cuda.h"

namespace witan::test {

inline constexpr int kNotRun = 77;  // the exit code that ctest shows as skipped, never as passed

// Says so if there is none.
inline bool gpu_absent() {
  if (cuda::device_count() > 0) return false;
  std::printf("not run: this machine has no CUDA device\n");
  return true;
}

}  // namespace witan::test
