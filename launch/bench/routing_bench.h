// What routing costs: the router, and moving rows to their experts and back, as a share of the MoE
// layer's time, for every selection at one size.
#pragma once

#include <vector>

#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// The layer with as many experts per token and every selection in turn, forward and backward, by
// the router's own choice. Collective.
std::vector<BenchResult> bench_routing(const BenchSession& session, const LayerShape& shape);

// The layer with another selection; the same number of (token, expert) pairs where that is fixed.
// Throws where `selection` (a name of the registry) is unknown.
LayerShape with_selection(const LayerShape& shape, const std::string& selection);

}  // namespace witan
