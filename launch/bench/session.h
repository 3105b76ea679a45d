// What every part of `witan bench` is given: the ranks, their threads, and how long to measure.
#pragma once

#include <cstdint>
#include <vector>

#include "launch/bench/result.h"
#include "launch/runtime.h"
#include "parallel/mesh.h"
#include "parallel/mpi_environment.h"

namespace witan {

struct BenchSession {
  const MpiEnvironment& mpi;
  Communicator& world;
  Runtime runtime;
  int repeat = 0;  // measurements of each thing, behind a warm-up

  bool leader() const { return world.rank() == 0; }
};

// The sum of `value` over all ranks. Collective.
double sum_over_ranks(Communicator& world, double value);

}  // namespace witan
