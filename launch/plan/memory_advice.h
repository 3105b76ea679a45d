// What of a config would have to change for a rank to fit.
#pragma once

#include <string>

#include "launch/plan/memory.h"

namespace witan {

// One or two lines: how much a rank needs by the plan, and which values of train.recompute,
// train.micro_batch and data.seq_len need no more than `budget` bytes, the smallest change first;
// or that none of them does, and what is needed at least. Figures are the plan's.
std::string memory_advice(const PlanSubject& subject, const PlanLayout& layout, double imbalance,
                          std::int64_t budget);

}  // namespace witan
