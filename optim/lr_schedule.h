// The learning rate of a step.
#pragma once

#include <cstdint>

#include "configs/schema/run.pb.h"

namespace witan {

// Of step `step` (0-based) out of `steps`: linear warm-up over warmup_steps (step s gets (s + 1) /
// warmup_steps of lr), then the schedule over the steps that remain, which reaches min_ratio * lr
// in the last step.
double learning_rate(const configs::OptimizerConfig& optimizer, std::int64_t step,
                     std::int64_t steps);

// lr factor of a tensor by the first matching optimizer.rule (fnmatch globs); 1 if none matches.
double lr_factor(const configs::OptimizerConfig& optimizer, const char* tensor_name);

}  // namespace witan
