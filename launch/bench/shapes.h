// The sizes that are measured: the standard ones, or those of the user's config.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"

namespace witan {

// One MoE layer and the tokens of a step that pass it, over all ranks.
struct LayerShape {
  configs::RunConfig run;  // the model, how its experts are shared, what is recomputed
  int layer = 0;
  std::int64_t tokens = 0;
  std::optional<double> bar = std::nullopt;  // share of the peak that float32 should reach
  // How many times as fast bf16 should be, without and with AMX.
  std::optional<double> bf16_bar = std::nullopt, bf16_bar_amx = std::nullopt;

  const configs::ModelConfig& model() const { return run.model(); }
  std::int64_t experts() const { return model().moe().experts(); }
  std::int64_t top_k() const;
  std::string name() const;  // "4096 tokens, d 512, ff 1024, 8 experts top-2"
};

// A training step.
struct StepShape {
  std::string name;  // "coarse: d 512, ff 1024, 8 experts top-2, 4 layers, 8 x 512 tokens"
  configs::RunConfig run;
};

// A model whose layers are all of this kind.
configs::ModelConfig moe_model(std::int64_t d_model, std::int64_t d_ff, std::int64_t experts,
                               std::int64_t top_k, std::int64_t layers);

std::vector<LayerShape> standard_layers();
LayerShape many_experts_layer();  // the one of them that routes most: 64 experts, top-8
// Ranks that an expert-parallel group gets: the largest divisor of `ranks` that divides the
// experts.
int expert_parallel_of(const LayerShape& shape, int ranks);
std::vector<StepShape> standard_steps();
StepShape step_of(const configs::RunConfig& run);
// The first MoE layer of a run, with the tokens of a micro-batch of every rank; nothing without
// one, or where the number of experts differs from token to token.
std::optional<LayerShape> layer_of(const configs::RunConfig& run, int ranks);

}  // namespace witan
