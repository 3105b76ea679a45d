// Threads and kernels of a process.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "core/base/context.h"
#include "core/base/dtype.h"
#include "parallel/mpi_environment.h"

namespace witan {

struct Runtime {
  Context ctx;
  std::shared_ptr<const void> stream;  // of ctx; keeps it and its scratch memory
  DType dtype = DType::kFloat32;
  int threads = 1;
  std::string kernels;                // ops::describe_kernels()
  std::vector<std::string> warnings;  // fewer cores than threads, ...
};

// Applies a RuntimeConfig: instruction set, GEMM, threads; takes a GPU and a stream. UserError if
// this CPU cannot execute what is asked for.
Runtime start_runtime(const configs::RuntimeConfig& config, const MpiEnvironment& mpi,
                      configs::Device device = configs::CPU);

// A stream of `device` in runtime.ctx, released with the last copy of the runtime.
void open_stream(Device device, Runtime& runtime);

// The GPU of a rank: its number among the ranks of the node, counted round where there are fewer
// GPUs than ranks. UserError if the machine has none, or the driver is too old.
Device gpu_of_rank(int local_rank);

}  // namespace witan
