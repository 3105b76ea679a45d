#include "launch/bench/shapes.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/model/param_table.h"
#include "parallel/mesh.h"

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

std::int64_t LayerShape::top_k() const { return ModelDims(model()).top_k; }

std::string LayerShape::name() const {
  return detail::concat(tokens, " tokens, d ", model().d_model(), ", ff ", model().moe().d_ff(),
                        ", ", experts(), " experts top-", top_k());
}

namespace {

LayerShape standard_layer(const configs::ModelConfig& model, std::int64_t tokens) {
  configs::RunConfig run;
  *run.mutable_model() = model;
  return {run, 0, tokens};
}

}  // namespace

LayerShape many_experts_layer() { return standard_layer(moe_model(512, 256, 64, 8, 1), 4096); }

std::vector<LayerShape> standard_layers() {
  LayerShape coarse = standard_layer(moe_model(512, 1024, 8, 2, 1), 4096);
  LayerShape fine = many_experts_layer();
  LayerShape few_rows = standard_layer(moe_model(256, 512, 64, 2, 1), 1024);
  coarse.bar = 0.75;
  coarse.bf16_bar = 1.5;
  coarse.bf16_bar_amx = 2.5;
  fine.bar = 0.60;
  few_rows.bar = 0.40;
  return {coarse, fine, few_rows};
}

namespace {

StepShape standard_step(const char* name, const configs::ModelConfig& model, std::int64_t batch,
                        std::int64_t seq_len) {
  configs::RunConfig run;
  run.set_name(name);
  *run.mutable_model() = model;
  run.mutable_model()->mutable_moe()->add_balance()->mutable_switch_aux();
  run.mutable_train()->set_global_batch(batch);
  run.mutable_data()->set_seq_len(seq_len);
  return step_of(run);
}

}  // namespace

std::vector<StepShape> standard_steps() {
  return {standard_step("coarse", moe_model(512, 1024, 8, 2, 4), 8, 512),
          standard_step("fine", moe_model(512, 256, 64, 8, 4), 8, 512),
          standard_step("quick", moe_model(256, 512, 16, 2, 4), 16, 256),
          standard_step("many", moe_model(256, 512, 64, 2, 4), 4, 256)};
}

StepShape step_of(const configs::RunConfig& run) {
  const configs::ModelConfig& model = run.model();
  const std::string experts =
      model.has_moe() ? detail::concat(", ff ", model.moe().d_ff(), ", ", model.moe().experts(),
                                       " experts top-", ModelDims(model).top_k)
                      : "";
  return {detail::concat(run.name(), ": d ", model.d_model(), experts, ", ", model.layers(),
                         " layers, ", run.train().global_batch(), " x ", run.data().seq_len(),
                         " tokens"),
          run};
}

int expert_parallel_of(const LayerShape& shape, int ranks) {
  return resolve_expert_parallel(shape.run, ranks);
}

std::optional<LayerShape> layer_of(const configs::RunConfig& run, int ranks) {
  const ModelDims dims(run.model());
  const auto first = std::find(dims.is_moe.begin(), dims.is_moe.end(), true);
  if (first == dims.is_moe.end() || dims.choices != dims.top_k) return std::nullopt;
  const std::int64_t sequences = run.train().has_micro_batch() ? run.train().micro_batch() * ranks
                                                               : run.train().global_batch();
  return LayerShape{run, static_cast<int>(first - dims.is_moe.begin()),
                    sequences * run.data().seq_len()};
}

}  // namespace witan
