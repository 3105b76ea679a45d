// The MoE layer, forward and backward, against the arithmetic peak.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// Balanced routing; expert parallelism over all ranks that divide the experts. Collective.
std::vector<BenchResult> bench_layer(const BenchSession& session, const LayerShape& shape);

}  // namespace witan
