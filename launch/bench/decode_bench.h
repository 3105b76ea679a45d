// Decoding one token at a time: every active weight is read once, so reading memory is the limit;
// on a GPU the limit is copying.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"
#include "launch/bench/shapes.h"

namespace witan {

// Every rank by itself, one sequence each. A sparse model also against dense ones of the same
// shape: of as many parameters as a token of it uses, and of as many as it has. Collective.
std::vector<BenchResult> bench_decode(const BenchSession& session, const StepShape& shape);

}  // namespace witan
