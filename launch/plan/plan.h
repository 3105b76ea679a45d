// Everything that `witan plan` says of a config, and how it is written down.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/plan/counts.h"
#include "launch/plan/layouts.h"
#include "launch/plan/memory.h"
#include "launch/plan/step_time.h"
#include "launch/plan/traffic.h"

namespace witan {

struct Plan {
  struct Level {
    Recompute recompute;
    MemoryPlan memory;
  };
  std::string name;
  std::int64_t seq_len = 0, tokens_per_step = 0;
  double imbalance = 1.0;
  ParameterCounts parameters;
  std::int64_t parameters_per_rank = 0;
  Flops flops;
  double dense_forward_flops = 0.0;  // of a token of the dense model of equal total
  PlanLayout layout;                 // the config's own
  MemoryPlan memory;
  std::vector<Level> levels;  // the same layout at each level of recomputation
  std::vector<TrafficPart> traffic;
  // With a GPU only.
  struct DeviceMemoryFit {
    std::int64_t bytes = 0;
    std::string of;      // "--device-memory", or the GPU that is there
    std::string advice;  // empty: it fits
  };
  std::optional<DeviceMemoryFit> device_memory;
  // With a machine only.
  std::optional<configs::MachineConfig> machine;
  StepTime time;
  LayoutSearch search;
};

// The GPU of each rank: its memory, and the first figure of its compute capability.
struct PlannedGpu {
  std::int64_t bytes = 0;
  std::string of;
  int compute_capability_major = 9;
};

// `ranks`: of a plan without a machine, on one node.
Plan make_plan(const configs::RunConfig& run, const std::optional<configs::MachineConfig>& machine,
               int ranks, double imbalance, const std::optional<PlannedGpu>& gpu = std::nullopt);

// `layouts`: how many of the fastest ones are listed.
std::string plan_text(const Plan& plan, std::size_t layouts);
std::string plan_json(const Plan& plan);

// A line for each model: total, active, efficiency, FLOPs per token against a dense model of equal
// total.
std::string comparison_text(const std::vector<Plan>& plans);
std::string comparison_json(const std::vector<Plan>& plans);

}  // namespace witan
