// What a run has come to, on the terminal and as JSON (docs/metrics.md has the keys).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/engine.h"
#include "launch/evaluator.h"
#include "launch/metrics/step_metrics.h"

namespace witan {

struct RunSummary {
  std::string name;
  std::int64_t step = 0, steps = 0;
  std::int64_t tokens = 0;         // trained on in all
  double train_loss = 0.0;         // mean over the last tenth of the steps
  double tokens_per_second = 0.0;  // median step
  double seconds = 0.0;            // of this process, from its start
  std::int64_t total_parameters = 0, active_parameters = 0;
  int ranks = 1, expert_parallel = 1, threads = 1;
  std::string kernels;
  std::string stopped;     // "", or why the run ended before its last step
  std::string checkpoint;  // the last one; empty if none
  std::vector<EvalResult> validation;
  std::vector<LayerMetrics> load;   // counts over the last tenth of the steps
  std::vector<std::string> tags;    // of LayerMetrics::tag_counts
  double worst_step_max_vio = 0.0;  // of any layer and step in it
  std::vector<MemoryPart> memory;   // of rank 0
  std::int64_t peak_memory = 0;     // resident set of rank 0
};

std::string summary_json(const RunSummary& summary);
void print_summary(const RunSummary& summary);

// "12.3 MiB"
std::string human_bytes(std::int64_t bytes);

}  // namespace witan
