// Which layout of a machine's ranks is fastest and fits.
#pragma once

#include <optional>
#include <vector>

#include "launch/plan/memory.h"
#include "launch/plan/step_time.h"

namespace witan {

struct PlannedLayout {
  PlanLayout layout;
  MemoryPlan memory;
  StepTime time;
};

// What would be needed where nothing fits.
struct MemoryNeed {
  PlannedLayout least;             // the layout with the least memory on these ranks
  std::optional<PlanLayout> fits;  // on more ranks of the same kind; nothing: on none
};

struct LayoutSearch {
  std::vector<PlannedLayout> fitting;  // the fastest first
  std::int64_t tried = 0;
  std::optional<MemoryNeed> need;  // if nothing fits
};

// Every EP that divides ranks and experts, every micro-batch that divides the rank's share of
// train.global_batch, every level of recomputation. The ranks must divide the batch.
LayoutSearch search_layouts(const PlanSubject& subject, const configs::MachineConfig& machine,
                            double imbalance);

bool fits(const MemoryPlan& memory, const configs::MachineConfig& machine);

}  // namespace witan
