// Whole training steps against the arithmetic peak.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// Collective; complete at rank 0, whose phases are listed.
std::vector<BenchResult> bench_step(const BenchSession& session, const StepShape& shape);

}  // namespace witan
