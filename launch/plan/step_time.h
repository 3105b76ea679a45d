// How long a step takes on a machine: work over rates, part by part. docs/plan.md has the formulas
// and how far they are off.
#pragma once

#include <string>
#include <vector>

#include "launch/plan/counts.h"
#include "launch/plan/machine.h"
#include "launch/plan/traffic.h"

namespace witan {

struct TimePart {
  std::string part;
  double seconds = 0.0;
};

struct StepTime {
  std::vector<TimePart> parts;  // of the busiest rank, in the order of a step
  double seconds = 0.0;
  double tokens_per_second = 0.0;  // of all ranks
  double mfu = 0.0;                // model FLOPs (without recomputed work) over the ranks' peak
  double of(const std::string& part) const;
};

// `imbalance`: load of the busiest rank of a group over the mean.
StepTime plan_step_time(const PlanSubject& subject, const PlanLayout& layout,
                        const configs::MachineConfig& machine, double imbalance);

}  // namespace witan
