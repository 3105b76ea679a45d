// What routing costs: the router, and moving rows to their experts and back, as a share of the MoE
// layer's time, for every selection at one size.
#pragma once

#include <optional>
#include <vector>

#include "core/model/router.h"
#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// The layer with as many experts per token and every selection in turn, forward and backward, by
// the router's own choice. Collective.
std::vector<BenchResult> bench_routing(const BenchSession& session, const LayerShape& shape);

// The layer with another selection and without balancing; as many (token, expert) pairs where their
// number is fixed. Nothing where that selection does not fit its experts.
std::optional<LayerShape> with_selection(const LayerShape& shape, const RouterEntry& entry);

}  // namespace witan
