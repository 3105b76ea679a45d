// The MoE layer and the training step under an uneven load, against the bound of the busiest rank.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// MaxVio 0, 1 and 4, as far as top_k allows: of one expert, and of as many experts of rank 0 as can
// be so hot at once. The bound is the time at MaxVio 0 times the rows of the busiest rank over the
// mean. Collective.
std::vector<BenchResult> bench_imbalance(const BenchSession& session, const LayerShape& shape);

// The same for whole training steps. Only the MoE layers wait for the busiest rank: the bound is
// the step at MaxVio 0 plus what its MoE layers, measured by themselves in the same turns, take
// longer. Nothing for a model without them.
std::vector<BenchResult> bench_step_imbalance(const BenchSession& session, const StepShape& shape);

}  // namespace witan
