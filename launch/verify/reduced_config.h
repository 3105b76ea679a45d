// A config made small enough to be checked in seconds: narrower, shorter, fewer layers; the
// router, its balancers, the kind of experts, shared experts, recompute and the order of dense and
// MoE layers stay as they are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"

namespace witan {

// One field that differs from the user's config; texts as in a config file.
struct Reduction {
  std::string field, from, to;
};

struct ReducedRun {
  configs::RunConfig run;
  std::vector<Reduction> changes;
  bool own_data = false;  // the config's datasets; else synthetic tokens
};

// What the reduced model may have at most.
struct ReducedLimits {
  std::int64_t d_model = 80, head_dim = 24, heads = 4;
  std::int64_t dense_ff = 72, expert_ff = 40, shared_ff = 40;
  std::int64_t layers = 5, experts = 64, vocab = 1024, seq_len = 32;
};

// For `ranks` ranks. `own_data`: the datasets are there; without them, or if the vocabulary had to
// shrink, data.train keeps its names and weights, and its paths lie in `synthetic_folder`. Each
// rank has two sequences a step in one micro-batch, or four in two if the config accumulates.
// Fields whose default depends on those (counts of switch_aux) become explicit.
ReducedRun reduce_config(const configs::RunConfig& run, int ranks, bool own_data,
                         const std::string& synthetic_folder, const ReducedLimits& limits = {});

}  // namespace witan
