#include "launch/plan/layer_arenas.h"

#include <set>
#include <string>

namespace witan {

void LayerArenas::norm(ArenaCount& arena) {
  take(arena, rows_.tokens);
  if (model().norm().kind() == configs::NormConfig::LAYERNORM) take(arena, rows_.tokens);
}

void LayerArenas::forward(bool moe, bool keep_choice) {
  attention_forward();
  feed_forward(moe, keep_choice);
}

void LayerArenas::attention_forward() {
  ArenaCount& saved = arenas_.saved;
  const std::int64_t tokens = rows_.tokens;
  take(saved, tokens * dims_.d_model);  // normalised input
  norm(saved);
  take(saved, tokens * dims_.d_model);  // middle
  take(saved, tokens * dims_.qkv_rows());
  const configs::AttentionConfig& attention = model().attention();
  if (attention.qk_norm()) {
    take(saved, tokens * dims_.qkv_rows());
    const bool whole = attention.qk_norm_scope() == configs::AttentionConfig::PROJECTION;
    take(saved, tokens * (whole ? 2 : dims_.heads + dims_.kv_heads));
  }
  take(saved, tokens * dims_.heads * dims_.v_dim);
  take(saved, tokens * dims_.heads);
  if (attention.has_latent()) latent_forward();
}

// core/model/latent_attention_layer.cc: what it has besides plain attention.
void LayerArenas::latent_forward() {
  ArenaCount& saved = arenas_.saved;
  ArenaCount& scratch = arenas_.scratch;
  const std::int64_t tokens = rows_.tokens;
  const std::int64_t queries = dims_.heads * dims_.head_dim;
  const ArenaCount::Scope scope(scratch);
  take(scratch,
       tokens * ((dims_.q_rank > 0 ? dims_.q_rank : queries) + dims_.kv_rank + dims_.rope_dim));
  for (const std::int64_t rank : {dims_.q_rank, dims_.kv_rank}) {
    if (rank == 0) continue;
    take(saved, tokens * rank);
    take(saved, tokens * rank);
    take(saved, tokens);  // RMSNorm of the latent
  }
  take(scratch, tokens * queries);
  take(scratch, tokens * dims_.rope_dim);
  take(scratch, tokens * dims_.heads * (dims_.nope_dim + dims_.v_dim));
}

void LayerArenas::latent_backward() {
  ArenaCount& scratch = arenas_.scratch;
  const std::int64_t tokens = rows_.tokens;
  const std::int64_t queries = dims_.heads * dims_.head_dim;
  take(scratch, tokens * queries);
  take(scratch, tokens * dims_.rope_dim);
  take(scratch, tokens * dims_.heads * (dims_.nope_dim + dims_.v_dim));
  for (int i = 0; i < 2; ++i) take(scratch, tokens * dims_.kv_rank);
  for (int i = 0; i < 2 && dims_.q_rank > 0; ++i) take(scratch, tokens * dims_.q_rank);
  take(scratch,
       tokens * ((dims_.q_rank > 0 ? dims_.q_rank : queries) + dims_.kv_rank + dims_.rope_dim));
}

void LayerArenas::attention_backward() {
  ArenaCount& scratch = arenas_.scratch;
  const ArenaCount::Scope scope(scratch);
  take(scratch, rows_.tokens * dims_.heads * dims_.v_dim);
  take(scratch, rows_.tokens * dims_.qkv_rows());
  take(scratch, rows_.tokens * dims_.heads);
  if (model().attention().has_latent()) latent_backward();
}

void LayerArenas::feed_forward(bool moe, bool keep_choice) {
  const std::int64_t residual = rows_.tokens * dims_.d_model;
  take(arenas_.saved, residual);
  norm(arenas_.saved);
  const ArenaCount::Scope scope(arenas_.scratch);
  take(arenas_.scratch, residual);
  if (moe) {
    moe_forward(keep_choice);
  } else {
    ffn_forward(dims_.dense_ff);
  }
}

void LayerArenas::backward(bool moe) {
  ArenaCount& scratch = arenas_.scratch;
  const ArenaCount::Scope scope(scratch);
  take(scratch, rows_.tokens * dims_.d_model);
  if (moe) {
    moe_backward();
  } else {
    const ArenaCount::Scope ffn(scratch);
    take(scratch, rows_.tokens * dims_.dense_ff);
  }
  attention_backward();
}

void LayerArenas::ffn_forward(std::int64_t d_ff) {
  take(arenas_.saved, rows_.tokens * 2 * d_ff);
  take_operands(arenas_.saved, rows_.tokens * d_ff);
}

void LayerArenas::shared_forward() {
  if (model().moe().shared_gate()) {
    take(arenas_.saved, rows_.tokens * dims_.d_model);
    take(arenas_.saved, rows_.tokens);
  }
  ffn_forward(dims_.shared_ff);
}

void LayerArenas::shared_backward() {
  ArenaCount& scratch = arenas_.scratch;
  const ArenaCount::Scope scope(scratch);
  if (model().moe().shared_gate()) take(scratch, rows_.tokens);
  take(scratch, rows_.tokens * dims_.shared_ff);
}

bool LayerArenas::learned_noise() const {
  const configs::RouterConfig& router = model().moe().router();
  return router.has_noisy_top_k() &&
         router.noisy_top_k().noise() == configs::NoisyTopKSelection::LEARNED;
}

void LayerArenas::router_forward(bool keep_choice) {
  const configs::RouterConfig& router = model().moe().router();
  const std::int64_t scores = rows_.tokens * dims_.entries;
  ArenaCount& saved = arenas_.saved;
  if (router.input_jitter() > 0.0) take(saved, rows_.tokens * dims_.d_model);
  take(saved, scores);  // logits
  take(saved, scores);
  take(saved, rows_.tokens);
  take(saved, rows_.tokens * dims_.choices);
  if (router.has_noisy_top_k()) {
    for (int i = 0; i < (learned_noise() ? 3 : 2); ++i) take(saved, scores);
  }
  if (router.has_hierarchical()) take(saved, rows_.tokens * router.hierarchical().n_group());
  if (!keep_choice) {
    take_indices(arenas_.choice, rows_.tokens * dims_.choices);
    {
      const ArenaCount::Scope selection(arenas_.choice);
      if (model().moe().has_allowed_experts()) take(arenas_.choice, scores);       // ranked
      if (router.has_sinkhorn()) arenas_.choice.allocate(scores, sizeof(double));  // normalised
    }
    if (model().moe().has_capacity()) take_indices(arenas_.choice, rows_.tokens * dims_.choices);
    if (dims_.entries > dims_.experts) {  // the choices that travel
      take_indices(arenas_.choice, rows_.tokens * dims_.choices);
    }
    exchange_plan();
  }
  for (int chunk = 0; chunk < subject_.exchange.chunks; ++chunk) {
    take(saved, of_chunk(rows_.slots));  // routing weights
  }
}

std::int64_t LayerArenas::of_chunk(std::int64_t rows) const {
  return (rows + subject_.exchange.chunks - 1) / subject_.exchange.chunks;
}

// core/model/exchange_plan.cc
void LayerArenas::exchange_plan() {
  const bool pads = model().moe().capacity().pad_to_capacity();
  for (int chunk = 0; chunk < subject_.exchange.chunks; ++chunk) {
    if (!alone()) {
      take_indices(arenas_.choice, of_chunk(rows_.sent));
      take_indices(arenas_.choice, of_chunk(rows_.sent_slots));
      take_indices(arenas_.choice, of_chunk(rows_.tokens) + 1);
      take_indices(arenas_.choice, of_chunk(pads ? rows_.chosen_slots : rows_.sent));
      take_indices(arenas_.choice, of_chunk(rows_.rows));  // the token of each row
    }
    take_indices(arenas_.choice, of_chunk(rows_.slots));
    take_indices(arenas_.choice, of_chunk(rows_.rows) + 1);
    const std::int64_t listed = pads && alone() ? rows_.chosen_slots : rows_.slots;
    take_indices(arenas_.choice, of_chunk(listed));
    take_indices(arenas_.choice, of_chunk(listed));  // choices, or where the rows lie
  }
}

void LayerArenas::router_backward() {
  ArenaCount& scratch = arenas_.scratch;
  const ArenaCount::Scope scope(scratch);
  take(scratch, rows_.tokens * dims_.entries);
  if (model().moe().router().input_jitter() > 0.0) take(scratch, rows_.tokens * dims_.d_model);
  if (learned_noise()) take(scratch, rows_.tokens * dims_.entries);
}

// The gradients that the balancing losses open, each once.
void LayerArenas::balance() {
  std::set<std::string> open;
  std::int64_t weights = 0;
  for (const configs::BalancerConfig& config : model().moe().balance()) {
    if (config.has_switch_aux() || config.has_device_balance() || config.has_entropy()) {
      open.insert("ds");
    }
    if (config.has_importance_cv2()) {
      const bool of_weights =
          config.importance_cv2().importance() == configs::ImportanceCv2::WEIGHTS;
      if (of_weights) {
        weights = rows_.tokens * dims_.choices;
      } else {
        open.insert("ds");
      }
    }
    if (config.has_load_cv2()) open.insert({"dz", "dclean_z", "dnoise_scale"});
  }
  for (std::size_t i = 0; i < open.size(); ++i) {
    take(arenas_.scratch, rows_.tokens * dims_.entries);
  }
  if (weights > 0) take(arenas_.scratch, weights);
}

std::int64_t LayerArenas::up_width() const {
  const bool gated = model().moe().expert_kind() == configs::MoeConfig::SWIGLU;
  return gated ? 2 * dims_.moe_ff : dims_.moe_ff;
}

void LayerArenas::experts_up(ArenaCount& arena) {
  take(arena, of_chunk(rows_.slots) * up_width());
  const ArenaCount::Scope scope(arenas_.scratch);
  take_operands(arenas_.scratch, of_chunk(rows_.slots) * dims_.d_model);
}

void LayerArenas::experts_forward() {
  const bool keep_up = layout_.recompute != Recompute::kMoeLayer;
  const bool keep_h = keep_up && layout_.recompute != Recompute::kMoeActivation;
  const std::int64_t slots = of_chunk(rows_.slots);
  const ArenaCount::Scope scope(arenas_.scratch);
  take(keep_up ? arenas_.saved : arenas_.scratch, slots * up_width());
  take_operands(keep_h ? arenas_.saved : arenas_.scratch, slots * dims_.moe_ff);
  take_operands(arenas_.scratch, slots * dims_.d_model);
  // Where the experts' rows are of the same type, their results take their place.
  const bool in_place = subject_.operand_bytes == subject_.activation_bytes;
  if (!in_place) take(arenas_.scratch, slots * dims_.d_model);
}

void LayerArenas::moe_forward(bool keep_choice) {
  ArenaCount& scratch = arenas_.scratch;
  router_forward(keep_choice);
  const ArenaCount::Scope scope(scratch);
  ArenaCount& dispatched =
      layout_.recompute == Recompute::kMoeLayer ? arenas_.scratch : arenas_.saved;
  const std::int64_t rows = of_chunk(rows_.rows) * dims_.d_model;
  // This rank's own rows stay where they are.
  const std::int64_t others = of_chunk(rows_.rows - rows_.own) * dims_.d_model;
  if (!alone()) take(dispatched, others);
  if (dims_.shared_ff > 0) {
    take(scratch, rows_.tokens * dims_.d_model);
    shared_forward();
  }
  for (int chunk = 0; chunk < subject_.exchange.chunks; ++chunk) {
    if (!alone() && chunk + 1 < subject_.exchange.chunks) take(dispatched, others);
    // One message at a time goes out of shared memory.
    if (!alone() && (!windows_ || chunk > 0)) take(scratch, rows);
    experts_forward();
  }
}

void LayerArenas::experts_backward() {
  ArenaCount& scratch = arenas_.scratch;
  const std::int64_t slots = of_chunk(rows_.slots);
  const ArenaCount::Scope scope(scratch);
  for (int i = 0; i < 2; ++i) take_operands(scratch, slots * dims_.d_model);
  const bool in_place = subject_.operand_bytes == subject_.activation_bytes;
  if (!in_place) take(scratch, slots * dims_.d_model);
  take(scratch, slots * dims_.moe_ff);
  // The gradient between the products lies in the place of a tensor that is as large, if any is.
  if (!in_place && up_width() == dims_.moe_ff) take_operands(scratch, slots * up_width());
}

void LayerArenas::moe_backward() {
  ArenaCount& scratch = arenas_.scratch;
  const ArenaCount::Scope scope(scratch);
  const std::int64_t slots = of_chunk(rows_.slots);
  const std::int64_t rows = of_chunk(rows_.rows) * dims_.d_model;
  const std::int64_t others = of_chunk(rows_.rows - rows_.own) * dims_.d_model;
  const int chunks = subject_.exchange.chunks;
  take(scratch, rows_.tokens * dims_.choices);
  if (layout_.recompute == Recompute::kMoeLayer) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      if (!alone()) take(scratch, others);
      experts_up(scratch);
    }
  }
  if (!alone()) take(scratch, others);
  if (dims_.shared_ff > 0) {
    take(scratch, rows_.tokens * dims_.d_model);
    shared_backward();
  }
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const bool activate =
        layout_.recompute == Recompute::kMoeLayer || layout_.recompute == Recompute::kMoeActivation;
    if (activate) take_operands(scratch, slots * dims_.moe_ff);
    if (!alone() && chunk + 1 < chunks) take(scratch, others);
    take(scratch, slots);
    if (!alone() && (!windows_ || chunk > 0)) take(scratch, rows);
    experts_backward();
  }
  balance();
  router_backward();
}

}  // namespace witan
