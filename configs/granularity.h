// Fine-grained experts as config arithmetic (Dai et al. 2024, DeepSeekMoE). Internal to configs/.
#pragma once

#include <map>
#include <string>

#include "configs/findings.h"
#include "configs/schema/run.pb.h"

namespace witan::configs {

// Carries out model.moe.granularity = G and clears it: experts and the selection's k (k_max) times
// G, d_ff divided by G, so that the experts keep their parameters and FLOPs. What results has to be
// in the ranges of the fields. Returns by field path how the new value came about ("8 times
// granularity 4"), for the effective config.
std::map<std::string, std::string> apply_granularity(RunConfig& run, Findings& findings);

}  // namespace witan::configs
