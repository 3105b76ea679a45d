// Threads and kernels of a process.
#pragma once

#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "core/base/context.h"
#include "core/base/dtype.h"
#include "parallel/mpi_environment.h"

namespace witan {

struct Runtime {
  Context ctx;
  DType dtype = DType::kFloat32;
  int threads = 1;
  std::string kernels;                // ops::describe_kernels()
  std::vector<std::string> warnings;  // fewer cores than threads, ...
};

// Applies a RuntimeConfig: instruction set, GEMM, threads. UserError if this CPU cannot execute
// what is asked for.
Runtime start_runtime(const configs::RuntimeConfig& config, const MpiEnvironment& mpi);

}  // namespace witan
