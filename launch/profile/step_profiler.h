// Records the steps of a training run that were asked for, and writes one trace file a rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/profile.h"
#include "launch/profile/clock_offset.h"
#include "launch/profile/step_range.h"
#include "launch/profile/trace_file.h"
#include "parallel/mesh.h"

namespace witan {

class StepProfiler {
 public:
  // `range` is resolved (launch/profile/step_range.h). The mesh outlives the profiler.
  StepProfiler(const StepRange& range, std::string run_folder, const Mesh& mesh);
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  // Around everything that belongs to a step, evaluation and checkpoint included. Collective. end()
  // of the last step writes the files; true: just now.
  void begin(std::int64_t step);
  bool end(std::int64_t step);
  // A run that ends early writes what it has; nothing happens if that is nothing. Collective.
  bool finish();

  const RankTrace& trace() const { return trace_; }

 private:
  void start();
  void take(std::int64_t step);

  StepRange range_;
  std::string run_folder_;
  const Mesh& mesh_;
  bool recording_ = false;
  std::int64_t origin_ns_ = 0;  // on this rank's clock: when the recording started on rank 0
  std::vector<ProfileEvent> events_;
  RankTrace trace_;
};

}  // namespace witan
