#include "launch/engine.h"

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
      params_(table_, layout_of(model, mesh), runtime.dtype, runtime.ctx.device, options.gradients),
      exchange_(make_token_exchange(mesh.expert(), on_node(options.exchange, mesh.node()))),
      all_ranks_(mesh.world()),
      expert_ranks_(mesh.expert()),
      model_(model, params_, *exchange_, runtime.ctx,
             {options.recompute, options.tags, options.exchange.chunks, options.exchange.max_rows,
              &all_ranks_, &expert_ranks_}) {}

std::vector<MemoryPart> Engine::memory_parts() const {
  const auto bytes = [](const TensorView& view) { return static_cast<std::int64_t>(view.bytes()); };
  std::int64_t weights = 0;
  std::int64_t gradients = 0;
  for (const ParamGroup group : {ParamGroup::kDense, ParamGroup::kExpert}) {
    weights += bytes(params_.flat_values(group));
    if (params_.has_gradients()) gradients += bytes(params_.flat_grads(group));
  }
  const ModelArenas& arenas = model_.arenas();
  return {{"weights", weights},
          {"gradients", gradients},
          {"activations", static_cast<std::int64_t>(arenas.saved.bytes_reserved())},
          {"routing", static_cast<std::int64_t>(arenas.choice.bytes_reserved())},
          {"scratch", static_cast<std::int64_t>(arenas.scratch.bytes_reserved())},
          {"exchange",
           static_cast<std::int64_t>(exchange_->buffer_bytes() + expert_ranks_.buffer_bytes())}};
}

double training_flops_per_token(const configs::ModelConfig& model, std::int64_t seq_len) {
  const ParamTable table(model);
  const ModelDims dims(model);
  double matrices = 0.0;
  for (const ParamInfo& info : table.params()) {
    if (!info.decay || info.name == "embedding") continue;  // vectors are not matrix products
    const double size = static_cast<double>(info.shape.size());
    matrices += info.role == ParamRole::kExpert
                    ? size * static_cast<double>(dims.top_k) / static_cast<double>(dims.experts)
                    : size;
  }
  if (model.tied_head()) matrices += static_cast<double>(dims.vocab * dims.d_model);
  // Forward, causal, per layer and token: 2 S heads (qk_dim + v_dim) / 2.
  const double attention =
      static_cast<double>(seq_len * dims.heads * (dims.head_dim + dims.v_dim) * dims.layers);
  return 6.0 * matrices + 3.0 * attention;
}

}  // namespace witan
