// A whole training run: start or resume, steps, evaluations, checkpoints, stop, summary.
#pragma once

#include <string>

#include "configs/load.h"
#include "parallel/mpi_environment.h"

namespace witan {

struct TrainOptions {
  std::string resume;  // "", "auto" (newest complete checkpoint of the run folder, else fresh) or a
                       // checkpoint folder
  std::string profile;    // steps to profile (launch/profile/step_range.h); empty: none
  std::string json_file;  // where the summary goes besides RUN/summary.json; empty: nowhere
};

// Collective. The exit code of `witan train`.
int train(const configs::LoadedConfig& config, const TrainOptions& options,
          const MpiEnvironment& mpi);

}  // namespace witan
