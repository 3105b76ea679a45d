// The config of a run on every rank: rank 0 reads the file and broadcasts it; every rank parses and
// checks the same text.
#pragma once

#include <string>
#include <vector>

#include "configs/load.h"
#include "parallel/communicator.h"

namespace witan {

// Reads FILE on rank 0. On any error rank 0 prints all of them to stderr and every rank gets ok =
// false (exit code 2). Collective.
struct RunConfigResult {
  bool ok = false;
  configs::LoadedConfig config;
};
RunConfigResult read_run_config(const std::string& file, const std::vector<std::string>& overrides,
                                Communicator& world, const std::vector<configs::Check>& checks);
// With all the checks of a training run on these ranks.
RunConfigResult read_run_config(const std::string& file, const std::vector<std::string>& overrides,
                                Communicator& world);

// All checks that combine fields, for `ranks` ranks. `train`: also those of data and training.
std::vector<configs::Check> run_config_checks(int ranks);

// The same for a plan, which may be for a GPU that neither this build nor this machine has.
std::vector<configs::Check> planning_checks(int ranks);

// The same for commands that only compute with a model: everything but the batch of a training
// step.
std::vector<configs::Check> inference_checks(int ranks);

// Those that do not depend on the number of ranks.
std::vector<configs::Check> model_checks();

// The same, and whether its device is there.
std::vector<configs::Check> verify_checks();

// What is allowed but worth a word (an unused option, a router without gradient, ...), one line
// each.
std::vector<std::string> run_config_warnings(const configs::RunConfig& run);

}  // namespace witan
