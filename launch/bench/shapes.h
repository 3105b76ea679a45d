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
  configs::ModelConfig model;
  int layer = 0;
  std::int64_t tokens = 0;
  std::optional<double> bar = std::nullopt;  // share of the peak that float32 should reach

  std::int64_t experts() const { return model.moe().experts(); }
  std::int64_t top_k() const { return model.moe().router().top_k().k(); }
  std::string name() const;  // "4096 tokens, d 512, ff 1024, 8 experts top-2"
};

// "d,ff,E,k" in words: a model whose layers are all of this kind.
configs::ModelConfig moe_model(std::int64_t d_model, std::int64_t d_ff, std::int64_t experts,
                               std::int64_t top_k, std::int64_t layers);

std::vector<LayerShape> standard_layers();
// The first MoE layer of a run, with the tokens of a micro-batch of every rank; UserError without
// one.
LayerShape layer_of(const configs::RunConfig& run, int ranks);

}  // namespace witan
