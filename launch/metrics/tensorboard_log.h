// TensorBoard event files of a run: what metrics.jsonl says as scalars, the experts' loads as
// histograms, the config as text.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "launch/evaluator.h"
#include "launch/metrics/step_metrics.h"

namespace witan::tensorboard {
class Event;
}

namespace witan {

class TensorBoardLog {
 public:
  // A new file in `folder`, which is made. `resume_step`: events of later steps in other files
  // there (of an interrupted run) are void. UserError if it cannot be written.
  TensorBoardLog(const std::string& folder, std::int64_t resume_step, const std::string& config);
  ~TensorBoardLog();
  TensorBoardLog(const TensorBoardLog&) = delete;
  TensorBoardLog& operator=(const TensorBoardLog&) = delete;

  // Scalars; with `counts` also "experts/layer_L", a histogram over expert ids: as many values e as
  // expert e got tokens. `balancers` names LayerMetrics.losses.
  void step(const StepMetrics& metrics, const std::vector<std::string>& balancers, bool counts);
  void evaluation(std::int64_t step, const std::vector<EvalResult>& results);
  void flush();

 private:
  void write(tensorboard::Event& event, std::int64_t step);

  std::string path_;
  std::FILE* file_ = nullptr;
};

}  // namespace witan
