#include "launch/plan/layouts.h"

#include <algorithm>

namespace witan {
namespace {

constexpr int kMostRanks = 1 << 20;  // the largest parallel.expert

std::vector<int> expert_sizes(const PlanSubject& subject, int ranks) {
  std::vector<int> sizes{1};
  const auto experts = static_cast<int>(subject.dims.experts);
  for (int size = 2; size <= std::min(ranks, experts); ++size) {
    if (ranks % size == 0 && experts % size == 0) sizes.push_back(size);
  }
  return sizes;
}

// Levels that differ for this model.
std::vector<Recompute> levels_of(const PlanSubject& subject) {
  if (subject.dims.experts > 0) return {std::begin(kRecomputeLevels), std::end(kRecomputeLevels)};
  return {Recompute::kNone, Recompute::kLayer};
}

bool lighter(const PlannedLayout& a, const PlannedLayout& b) {
  return a.memory.total() < b.memory.total();
}

// The fewest ranks, doubling, on which the lightest layout fits: one sequence at a time, every
// layer recomputed.
std::optional<PlanLayout> more_ranks(const PlanSubject& subject,
                                     const configs::MachineConfig& machine, double imbalance) {
  for (int ranks = static_cast<int>(machine.ranks()) * 2; ranks <= kMostRanks; ranks *= 2) {
    PlanLayout layout;
    layout.ranks = ranks;
    layout.ranks_per_node = static_cast<int>(machine.ranks_per_node());
    layout.recompute = Recompute::kLayer;
    for (const int size : expert_sizes(subject, ranks)) {
      layout.expert_parallel = size;
      if (fits(plan_memory(subject, layout, imbalance), machine)) return layout;
    }
  }
  return std::nullopt;
}

}  // namespace

bool fits(const MemoryPlan& memory, const configs::MachineConfig& machine) {
  return static_cast<double>(memory.total()) <= giga(machine.memory());
}

LayoutSearch search_layouts(const PlanSubject& subject, const configs::MachineConfig& machine,
                            double imbalance) {
  LayoutSearch search;
  std::optional<PlannedLayout> least;
  const auto ranks = static_cast<int>(machine.ranks());
  const std::int64_t share = subject.run.train().global_batch() / ranks;
  PlanLayout layout;
  layout.ranks = ranks;
  layout.ranks_per_node = static_cast<int>(machine.ranks_per_node());
  const auto consider = [&] {
    ++search.tried;
    PlannedLayout planned{layout, plan_memory(subject, layout, imbalance), {}};
    const bool good = fits(planned.memory, machine);
    if (!good && (!search.fitting.empty() || (least && !lighter(planned, *least)))) return;
    planned.time = plan_step_time(subject, layout, machine, imbalance);
    if (good) {
      search.fitting.push_back(std::move(planned));
    } else {
      least = std::move(planned);
    }
  };
  for (layout.micro_batch = 1; layout.micro_batch <= share; ++layout.micro_batch) {
    if (share % layout.micro_batch != 0) continue;
    layout.micro_batches = share / layout.micro_batch;
    for (const int size : expert_sizes(subject, ranks)) {
      layout.expert_parallel = size;
      for (const Recompute level : levels_of(subject)) {
        layout.recompute = level;
        consider();
      }
    }
  }
  std::stable_sort(search.fitting.begin(), search.fitting.end(),
                   [](const PlannedLayout& a, const PlannedLayout& b) {
                     return a.time.seconds < b.time.seconds;
                   });
  if (search.fitting.empty() && least) {
    search.need = MemoryNeed{*least, more_ranks(subject, machine, imbalance)};
  }
  return search;
}

}  // namespace witan
