// What a run says while it goes: metrics.jsonl (docs/metrics.md has the keys), TensorBoard event
// files if asked for, and the progress line. Rank 0 only; on other ranks nothing happens.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "launch/evaluator.h"
#include "launch/metrics/step_metrics.h"
#include "launch/metrics/tensorboard_log.h"

namespace witan {

class RunLog {
 public:
  struct Setup {
    std::string folder;      // metrics.jsonl is appended there
    std::int64_t steps = 0;  // of the whole run, for the ETA
    std::int64_t log_interval = 10;
    double flops_per_token = 0.0;
    double peak_flops = 0.0;  // of all ranks together; 0: unknown, then no MFU
    int expert_parallel = 1;
    std::vector<std::string> balancers;  // names, in the order of LayerMetrics.losses
    std::vector<std::string> tags;
    bool tensorboard = false;  // event files in FOLDER/tensorboard
    std::string config;        // their text
  };
  // `resume_step`: lines of later steps (of an interrupted run) are dropped from an existing file.
  RunLog(const Setup& setup, std::int64_t resume_step, bool active);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  void step(const StepMetrics& metrics);
  void evaluation(std::int64_t step, const std::vector<EvalResult>& results);
  void flush();

  double median_tokens_per_second() const;
  // Loss averaged over the last tenth of the steps seen.
  double recent_loss() const;

 private:
  void write_step(const StepMetrics& metrics);
  void progress(const StepMetrics& metrics);

  Setup setup_;
  bool active_;
  bool terminal_;
  std::FILE* file_ = nullptr;
  std::optional<TensorBoardLog> tensorboard_;
  std::vector<double> step_seconds_;
  std::vector<double> losses_;
  std::int64_t tokens_per_step_ = 0;
  std::int64_t skipped_ = 0;
  std::vector<LayerMetrics> window_;  // counts since the last progress line
};

// Largest resident set of this process so far, bytes.
std::int64_t peak_memory();

}  // namespace witan
