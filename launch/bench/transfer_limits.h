// What MPI and memory that ranks share can move between the ranks.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"

namespace witan {

// MPI_Alltoallv, and writing straight into the others' shared memory, by size. Bytes are those that
// all ranks together send to others. Nothing with one rank. Collective.
std::vector<BenchResult> bench_transfers(const BenchSession& session);

}  // namespace witan
