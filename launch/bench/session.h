// What every part of `witan bench` is given: the ranks, their threads, and how to measure.
#pragma once

#include <string>

#include "launch/bench/result.h"
#include "launch/bench/stopwatch.h"
#include "launch/runtime.h"
#include "parallel/mesh.h"
#include "parallel/mpi_environment.h"
#include "parallel/raw_mpi.h"

namespace witan {

struct BenchSession {
  const MpiEnvironment& mpi;
  Communicator& world;
  const RawMpi& raw_mpi;
  Runtime runtime;
  int repeat = 0;  // measurements of each thing, behind a warm-up
  BenchClock clock = BenchClock::kWall;
  DeviceTransport transport = DeviceTransport::kAuto;  // between GPUs

  std::string precision() const;  // "float32", "float64" or "bf16"
  bool in_bf16() const { return runtime.ctx.products == Products::kBfloat16; }
  bool leader() const { return world.rank() == 0; }
  int all_threads() const { return world.size() * runtime.threads; }
  // Whether rank 0 may use the threads of all ranks: one node, cores to run them on, and no GPU.
  bool leader_may_take_all() const;
  Stopwatch stopwatch() const { return {world, clock, runtime.ctx}; }
  bool on_cuda() const { return runtime.ctx.device.is_cuda(); }
  // Of all ranks, for tensors on the session's device. Collective.
  Mesh mesh(int expert_parallel) const;
};

// One rank alone, for tensors on ctx.device.
Mesh alone_on(const Context& ctx);

// The same without rounding operands to bfloat16.
Runtime full_precision(Runtime runtime);

// The sum of `value` over all ranks. Collective.
double sum_over_ranks(Communicator& world, double value);

}  // namespace witan
