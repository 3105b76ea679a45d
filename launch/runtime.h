// Threads and kernels of a process.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
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
  bool cuda_graphs = false;           // RuntimeConfig.cuda_graphs
};

// Applies a RuntimeConfig: instruction set, GEMM, threads; takes a GPU and a stream. UserError if
// this CPU cannot execute what is asked for.
Runtime start_runtime(const configs::RuntimeConfig& config, const MpiEnvironment& mpi,
                      configs::Device device = configs::CPU);

// A stream of `device` in runtime.ctx, released with the last copy of the runtime.
void open_stream(Device device, Runtime& runtime);

// The GPU of the rank with this number on its node: that of its number in `chosen`
// (runtime.device_index), or of the machine's GPUs where that is empty, counted round where there
// are fewer than ranks. UserError if the machine has no such GPU, or the driver is too old.
Device gpu_of_rank(int local_rank, std::span<const std::int64_t> chosen = {});

}  // namespace witan
