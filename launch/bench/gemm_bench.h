// Matrix products in the layouts and shapes of a model, by kernel, against the arithmetic peak.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// The up and down projections of a layer's experts: one matrix with 1 to 512 rows, and all experts
// together with the rows of a step. Every rank by itself. Collective.
std::vector<BenchResult> bench_gemm(const BenchSession& session, const LayerShape& shape);

}  // namespace witan
