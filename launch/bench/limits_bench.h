// The machine's limits: arithmetic, and reading memory at each level; those of its GPUs where the
// session is on them.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"

namespace witan {

// Collective.
std::vector<BenchResult> bench_limits(const BenchSession& session);

}  // namespace witan
