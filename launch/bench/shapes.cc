#include "launch/bench/shapes.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/model/param_table.h"

namespace witan {

configs::ModelConfig moe_model(std::int64_t d_model, std::int64_t d_ff, std::int64_t experts,
                               std::int64_t top_k, std::int64_t layers) {
  configs::ModelConfig model;
  model.set_vocab_size(512);
  model.set_d_model(d_model);
  model.set_layers(layers);
  model.mutable_attention()->set_heads(std::max<std::int64_t>(1, d_model / 64));
  configs::MoeConfig& moe = *model.mutable_moe();
  moe.set_experts(experts);
  moe.set_d_ff(d_ff);
  moe.mutable_router()->mutable_top_k()->set_k(top_k);
  return model;
}

std::string LayerShape::name() const {
  return detail::concat(tokens, " tokens, d ", model.d_model(), ", ff ", model.moe().d_ff(), ", ",
                        experts(), " experts top-", top_k());
}

std::vector<LayerShape> standard_layers() {
  return {{moe_model(512, 1024, 8, 2, 1), 0, 4096, 0.75},
          {moe_model(512, 256, 64, 8, 1), 0, 4096, 0.60},
          {moe_model(256, 512, 64, 2, 1), 0, 1024, 0.40}};
}

LayerShape layer_of(const configs::RunConfig& run, int ranks) {
  const ModelDims dims(run.model());
  const auto first = std::find(dims.is_moe.begin(), dims.is_moe.end(), true);
  if (first == dims.is_moe.end()) {
    throw_user_error("model.moe: this model has no MoE layer to measure");
  }
  const std::int64_t sequences = run.train().has_micro_batch() ? run.train().micro_batch() * ranks
                                                               : run.train().global_batch();
  return {run.model(), static_cast<int>(first - dims.is_moe.begin()),
          sequences * run.data().seq_len()};
}

}  // namespace witan
