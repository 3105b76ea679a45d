#include "launch/engine.h"

#include <algorithm>

#include "parallel/ep_token_exchange.h"

namespace witan {
namespace {

ParamStore::Layout layout_of(const configs::ModelConfig& model, const Mesh& mesh) {
  ParamStore::Layout layout;
  layout.local_experts = model.has_moe() ? model.moe().experts() / mesh.expert_parallel() : 0;
  layout.first_expert = layout.local_experts * mesh.expert().rank();
  layout.dense_ranks = mesh.world_size();
  layout.expert_ranks = mesh.replicas();
  return layout;
}

ExchangeOptions on_node(ExchangeOptions options, int node) {
  options.node = node;
  return options;
}

}  // namespace

Engine::Engine(const configs::ModelConfig& model, const Mesh& mesh, const Runtime& runtime,
               const Options& options)
    : mesh_(mesh),
      runtime_(runtime),
      table_(model),
      params_(table_, layout_of(model, mesh), runtime.dtype, runtime.ctx.device, options.gradients,
              runtime.ctx.stream),
      exchange_(make_token_exchange(mesh.expert(), on_node(options.exchange, mesh.node()),
                                    runtime.ctx.device)),
      all_ranks_(mesh.world()),
      expert_ranks_(mesh.expert()),
      model_(model, params_, *exchange_, runtime.ctx,
             {options.recompute, options.tags, options.exchange.chunks, options.exchange.max_rows,
              &all_ranks_, &expert_ranks_, runtime.cuda_graphs}) {}

std::vector<MemoryPart> Engine::memory_parts() const {
  const auto bytes = [](const TensorView& view) { return static_cast<std::int64_t>(view.bytes()); };
  std::int64_t gradients = 0;
  for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
    if (params_.has_gradients()) gradients += bytes(params_.flat_grads(group));
  }
  const ModelArenas& arenas = model_.arenas();
  return {{"weights", static_cast<std::int64_t>(params_.value_bytes())},
          {"weights in bf16", static_cast<std::int64_t>(params_.rounded_bytes())},
          {"gradients", gradients},
          {"activations", static_cast<std::int64_t>(arenas.activation_bytes())},
          {"routing", static_cast<std::int64_t>(arenas.routing_bytes())},
          {"scratch", static_cast<std::int64_t>(arenas.scratch.bytes_reserved())},
          {"exchange",
           static_cast<std::int64_t>(exchange_->buffer_bytes() + expert_ranks_.buffer_bytes())}};
}

double training_flops_per_token(const configs::ModelConfig& model, std::int64_t seq_len) {
  const ParamTable table(model);
  const ModelDims dims(model);
  // Of the positions, those that a layer works on.
  const auto share = [&](std::int64_t layer) {
    const std::int64_t depth = layer - dims.layers + 1;  // of a module of multi-token prediction
    return depth < 1 ? 1.0 : 1.0 - static_cast<double>(depth) / static_cast<double>(seq_len);
  };
  double head_passes = 1.0;
  for (std::int64_t k = 0; k < dims.mtp; ++k) head_passes += share(dims.layers + k);
  double matrices = 0.0;
  for (const ParamInfo& info : table.params()) {
    if (!info.decay || info.name == "embedding") continue;  // vectors are not matrix products
    const double size = static_cast<double>(info.shape.size()) *
                        (info.name == "head" ? head_passes : share(info.layer));
    matrices += info.role == ParamRole::kExpert
                    ? size * static_cast<double>(dims.top_k) / static_cast<double>(dims.experts)
                    : size;
  }
  if (model.tied_head()) matrices += static_cast<double>(dims.vocab * dims.d_model) * head_passes;
  // Forward, causal, per layer and token: 2 heads (qk_dim + v_dim) mean keys, S / 2 of them.
  double attention = 0.0;
  for (std::int64_t layer = 0; layer < dims.all_layers(); ++layer) {
    const std::int64_t depth = std::max<std::int64_t>(layer - dims.layers + 1, 0);
    attention += share(layer) * 2.0 * dims.mean_keys(seq_len - depth) *
                 static_cast<double>(dims.heads * (dims.head_dim + dims.v_dim));
  }
  return 6.0 * matrices + 3.0 * attention;
}

}  // namespace witan
