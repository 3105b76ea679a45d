// The limits of GPUs: copying memory, dense products, and what is between them.
#pragma once

#include <vector>

#include "launch/bench/result.h"
#include "launch/bench/session.h"

namespace witan {

// Copies of 16 times the L2 cache, dense products in float32, bf16 and float64, and with several
// ranks the all-to-all of the transport that carries tensors between GPUs. Collective.
std::vector<BenchResult> bench_device_limits(const BenchSession& session);

}  // namespace witan
