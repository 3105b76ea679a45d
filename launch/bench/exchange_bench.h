// The exchange of a MoE layer's rows against MPI_Alltoallv.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// Dispatch and combine of a layer's rows, there and back, against two MPI_Alltoallv of one row for
// each (token, choice). Balanced routing. Nothing where one rank holds all experts. Collective.
std::vector<BenchResult> bench_exchange(const BenchSession& session, const LayerShape& shape);

}  // namespace witan
