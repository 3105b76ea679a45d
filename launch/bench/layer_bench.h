// The MoE layer, forward and backward, against the arithmetic peak.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// Balanced routing; expert parallelism over as many ranks as divide the experts. With several ranks
// on one node the same layer also runs on rank 0 alone, with the threads of all. Phases are those
// of rank 0, in runs of their own. Collective; complete at rank 0.
std::vector<BenchResult> bench_layer(const BenchSession& session, const LayerShape& shape);

}  // namespace witan
