#include "core/model/attention_layer.h"

#include <cmath>
#include <string>

#include "core/base/profile.h"
#include "core/model/rope_scaling.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/ops/kv_append.h"
#include "core/ops/rounded_weights.h"

namespace witan {

AttentionLayer::AttentionLayer(const configs::ModelConfig& model, const ParamStore& params,
                               int layer)
    : layer_(layer) {
  const ModelDims dims(model);
  const configs::AttentionConfig& config = model.attention();
  rope_ = {dims.heads,
           dims.kv_heads,
           dims.head_dim,
           config.rope_theta(),
           model.norm().eps(),
           rope_scaling_of(config),
           config.qk_norm_scope() == configs::AttentionConfig::PROJECTION};
  window_ = config.sliding_window();
  qkv_rows_ = dims.qkv_rows();
  const std::string prefix = "layers." + std::to_string(layer) + ".attention.";
  wqkv_ = params.value(prefix + "qkv");
  bqkv_ = params.value(prefix + "qkv_bias");
  q_norm_ = params.value(prefix + "q_norm");
  k_norm_ = params.value(prefix + "k_norm");
  wout_ = params.value(prefix + "out");
  bout_ = params.value(prefix + "out_bias");
  if (!params.has_gradients()) return;
  dwqkv_ = params.grad(prefix + "qkv");
  dbqkv_ = params.grad(prefix + "qkv_bias");
  dq_norm_ = params.grad(prefix + "q_norm");
  dk_norm_ = params.grad(prefix + "k_norm");
  dwout_ = params.grad(prefix + "out");
  dbout_ = params.grad(prefix + "out_bias");
}

ops::AttentionShape AttentionLayer::shape(const Batch& batch) const {
  ops::AttentionShape shape = {
      batch.sequences, batch.seq_len,  rope_.heads,
      rope_.kv_heads,  rope_.head_dim, 1.0 / std::sqrt(static_cast<double>(rope_.head_dim))};
  shape.window = window_;
  return shape;
}

void AttentionLayer::allocate_projected(const ModelContext& model, const TensorView& x,
                                        Saved& saved) const {
  Arena& arena = model.arenas->steady();
  const bool qk_norm = !q_norm_.empty();
  saved.qkv = arena.allocate({x.rows(), qkv_rows_}, x.dtype, "attention");
  saved.projected =
      qk_norm ? arena.allocate({x.rows(), qkv_rows_}, x.dtype, "attention") : saved.qkv;
  if (qk_norm) {
    saved.qk_rstd = arena.allocate({x.rows(), rope_.norms()}, x.dtype, "attention");
  }
}

void AttentionLayer::allocate(const ModelContext& model, const TensorView& x, Saved& saved) const {
  Arena& arena = model.arenas->steady();
  allocate_projected(model, x, saved);
  saved.out = arena.allocate({x.rows(), rope_.heads * rope_.head_dim}, x.dtype, "attention");
  saved.lse = arena.allocate({x.rows(), rope_.heads}, x.dtype, "attention");
}

void AttentionLayer::add_to_key(GraphKey& key, const Batch& batch, const Saved& saved) const {
  key.add(batch.sequences);
  key.add(batch.seq_len);
  for (const TensorView& x : {batch.positions, batch.first_key, saved.projected, saved.qkv,
                              saved.qk_rstd, saved.out, saved.lse}) {
    add_to(key, x);
  }
  // Kept copies in bfloat16, or none while they are stale.
  for (const TensorView& w : {wqkv_, wout_}) key.add(ops::find_rounded(w));
}

void AttentionLayer::project(const ModelContext& model, const Batch& batch, const TensorView& x,
                             const Saved& saved) const {
  ops::gemm_nt(model.ctx, x, wqkv_, saved.projected);
  if (!bqkv_.empty()) ops::add_bias(model.ctx, saved.projected, bqkv_);
  ops::rope(model.ctx, rope_, saved.projected, batch.positions, q_norm_, k_norm_, saved.qkv,
            saved.qk_rstd);
  ops::round_operand(model.ctx, saved.qkv);
}

void AttentionLayer::project_out(const ModelContext& model, const TensorView& out,
                                 const TensorView& y) const {
  ops::gemm_nt(model.ctx, out, wout_, y);
  if (!bout_.empty()) ops::add_bias(model.ctx, y, bout_);
}

void AttentionLayer::forward(const ModelContext& model, const Batch& batch, const TensorView& x,
                             const TensorView& y, const Saved& saved) const {
  const ProfileScope profile("attention");
  project(model, batch, x, saved);
  ops::attention(model.ctx, shape(batch), saved.qkv, batch.first_key, saved.out, saved.lse);
  project_out(model, saved.out, y);
}

void AttentionLayer::backward(const ModelContext& model, const Batch& batch, const TensorView& dy,
                              const TensorView& x, const Saved& saved, const TensorView& dx) const {
  const ProfileScope profile("attention backward");
  const Context& ctx = model.ctx;
  Arena& scratch = model.arenas->scratch;
  ArenaScope scope(scratch);
  const TensorView dout = scratch.allocate(saved.out.shape, x.dtype, "attention backward");
  const TensorView dqkv = scratch.allocate(saved.qkv.shape, x.dtype, "attention backward");
  const TensorView delta = scratch.allocate(saved.lse.shape, x.dtype, "attention backward");

  if (!bout_.empty()) ops::bias_backward(ctx, dy, dbout_);
  ops::gemm_backward(ctx, dy, saved.out, wout_, dout, dwout_);
  ops::round_operand(ctx, dout);
  ops::attention_backward(ctx, shape(batch), dout, saved.qkv, batch.first_key, saved.out, saved.lse,
                          delta, dqkv);
  ops::rope_backward(ctx, rope_, dqkv, batch.positions, saved.projected, q_norm_, k_norm_,
                     saved.qk_rstd, dqkv, dq_norm_, dk_norm_);
  if (!bqkv_.empty()) ops::bias_backward(ctx, dqkv, dbqkv_);
  ops::gemm_backward(ctx, dqkv, x, wqkv_, dx, dwqkv_);
}

void AttentionLayer::forward_cached(const ModelContext& model, const Batch& batch,
                                    const TensorView& x, const KvCache& cache,
                                    const TensorView& y) const {
  const ProfileScope profile("attention");
  Saved saved;
  allocate_projected(model, x, saved);
  project(model, batch, x, saved);
  const auto layer = static_cast<std::size_t>(layer_);
  ArenaScope scope(model.arenas->scratch);
  const TensorView q = model.arenas->scratch.allocate({x.rows(), rope_.heads * rope_.head_dim},
                                                      x.dtype, "attention");
  const TensorView out = model.arenas->scratch.allocate(q.shape, x.dtype, "attention");
  const TensorView lengths = view_of(cache.lengths.data(), {cache.batch});
  ops::kv_append(model.ctx, shape(batch), saved.qkv, lengths, q, cache.keys[layer],
                 cache.values[layer]);
  ops::attention_cached(model.ctx, shape(batch), q, cache.keys[layer], cache.values[layer], lengths,
                        out);
  project_out(model, out, y);
}

}  // namespace witan
