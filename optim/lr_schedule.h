// The learning rate of a step.
#pragma once

#include <cstdint>
#include <vector>

#include "configs/schema/run.pb.h"

namespace witan {

// Of step `step` (0-based) out of `steps`: linear warm-up over warmup_steps (step s gets (s + 1) /
// warmup_steps of lr), then the schedule over the steps that remain, which reaches min_ratio * lr
// in the last step.
double learning_rate(const configs::OptimizerConfig& optimizer, std::int64_t step,
                     std::int64_t steps);

// lr factor of a tensor by the first matching optimizer.rule (fnmatch globs); 1 if none matches.
// Rules for some experts match none of it.
double lr_factor(const configs::OptimizerConfig& optimizer, const char* tensor_name);

// The same for each of the `experts` rows of a tensor whose axis 0 is the expert.
std::vector<double> lr_factors_of_experts(const configs::OptimizerConfig& optimizer,
                                          const char* tensor_name, std::int64_t experts);

// Whether the rule is for (a part of) this tensor, which has `experts` rows, one for each expert,
// or none (0).
bool rule_matches(const configs::LrRule& rule, const char* tensor_name, std::int64_t experts);

}  // namespace witan
