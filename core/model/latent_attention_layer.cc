#include "core/model/latent_attention_layer.h"

#include <cmath>
#include <string>

#include "core/base/profile.h"
#include "core/model/rope_scaling.h"
#include "core/ops/columns.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/ops/kv_append.h"

namespace witan {
namespace {

std::string prefix_of(int layer) { return "layers." + std::to_string(layer) + ".attention."; }

configs::NormConfig latent_norm(const configs::ModelConfig& model) {
  configs::NormConfig norm;
  norm.set_kind(configs::NormConfig::RMSNORM);
  norm.set_eps(model.attention().latent().norm_eps());
  return norm;
}

ops::LatentShape latent_shape(const configs::ModelConfig& model) {
  const ModelDims dims(model);
  return {dims.heads,
          dims.nope_dim,
          dims.rope_dim,
          dims.v_dim,
          model.attention().latent().rope_interleaved(),
          model.attention().rope_theta(),
          rope_scaling_of(model.attention())};
}

// Columns [begin, begin + count) in memory of their own.
TensorView columns_of(const ModelContext& model, Arena& arena, const TensorView& x,
                      std::int64_t begin, std::int64_t count) {
  const TensorView part = arena.allocate({x.rows(), count}, x.dtype, "latent attention");
  ops::copy_columns(model.ctx, x, begin, part, 0, count);
  return part;
}

}  // namespace

LatentAttentionLayer::LatentAttentionLayer(const configs::ModelConfig& model,
                                           const ParamStore& params, int layer)
    : shape_(latent_shape(model)),
      q_rank_(ModelDims(model).q_rank),
      kv_rank_(ModelDims(model).kv_rank),
      scale_(latent_scale_factor(model.attention()) /
             std::sqrt(static_cast<double>(shape_.qk_dim()))),
      layer_(layer),
      q_norm_(latent_norm(model), params, prefix_of(layer) + "q_latent_norm"),
      kv_norm_(latent_norm(model), params, prefix_of(layer) + "kv_latent_norm") {
  const std::string prefix = prefix_of(layer);
  win_ = params.value(prefix + "in");
  wq_up_ = params.value(prefix + "q_up");
  wkv_up_ = params.value(prefix + "kv_up");
  wout_ = params.value(prefix + "out");
  window_ = model.attention().sliding_window();
  if (!params.has_gradients()) return;
  dwin_ = params.grad(prefix + "in");
  dwq_up_ = params.grad(prefix + "q_up");
  dwkv_up_ = params.grad(prefix + "kv_up");
  dwout_ = params.grad(prefix + "out");
}

std::int64_t LatentAttentionLayer::first_width() const {
  return q_rank_ > 0 ? q_rank_ : shape_.heads * shape_.qk_dim();
}

void LatentAttentionLayer::rotate(const ModelContext& model, const Batch& batch,
                                  const Projected& heads, ops::Rotation rotation) const {
  ops::rotate_heads(model.ctx, shape_, heads.q, shape_.nope_dim, shape_.heads, shape_.qk_dim(),
                    batch.positions, rotation);
  ops::rotate_heads(model.ctx, shape_, heads.k_rope, 0, 1, 0, batch.positions, rotation);
}

LatentAttentionLayer::Projected LatentAttentionLayer::project(const ModelContext& model,
                                                              const Batch& batch,
                                                              const TensorView& x,
                                                              Saved& saved) const {
  Arena& arena = model.arenas->saved;
  Arena& scratch = model.arenas->scratch;
  const TensorView in = scratch.allocate({x.rows(), win_.rows()}, x.dtype, "latent attention");
  ops::gemm_nt(model.ctx, x, win_, in);

  Projected heads;
  if (q_rank_ > 0) {
    saved.q_in = columns_of(model, arena, in, 0, q_rank_);
    saved.q_latent = arena.allocate(saved.q_in.shape, x.dtype, "latent attention");
    q_norm_.forward(model.ctx, saved.q_in, saved.q_latent, arena, saved.q_norm);
    heads.q = scratch.allocate({x.rows(), wq_up_.rows()}, x.dtype, "latent attention");
    ops::gemm_nt(model.ctx, saved.q_latent, wq_up_, heads.q);
  } else {
    heads.q = columns_of(model, scratch, in, 0, first_width());
  }
  saved.kv_in = columns_of(model, arena, in, first_width(), kv_rank_);
  saved.kv_latent = arena.allocate(saved.kv_in.shape, x.dtype, "latent attention");
  kv_norm_.forward(model.ctx, saved.kv_in, saved.kv_latent, arena, saved.kv_norm);
  heads.k_rope = columns_of(model, scratch, in, first_width() + kv_rank_, shape_.rope_dim);
  rotate(model, batch, heads, ops::Rotation::kForward);
  return heads;
}

void LatentAttentionLayer::forward(const ModelContext& model, const Batch& batch,
                                   const TensorView& x, const TensorView& y, Saved& saved) const {
  const ProfileScope profile("attention");
  Arena& arena = model.arenas->saved;
  Arena& scratch = model.arenas->scratch;
  const std::int64_t qk = shape_.heads * shape_.qk_dim();
  const std::int64_t v = shape_.heads * shape_.v_dim;
  saved.qkv = arena.allocate({x.rows(), 2 * qk + v}, x.dtype, "latent attention");
  saved.out = arena.allocate({x.rows(), v}, x.dtype, "latent attention");
  saved.lse = arena.allocate({x.rows(), shape_.heads}, x.dtype, "latent attention");
  {
    ArenaScope scope(scratch);
    const Projected heads = project(model, batch, x, saved);
    const TensorView kv = scratch.allocate({x.rows(), wkv_up_.rows()}, x.dtype, "latent attention");
    ops::gemm_nt(model.ctx, saved.kv_latent, wkv_up_, kv);
    ops::join_latent_heads(model.ctx, shape_, heads.q, kv, heads.k_rope, saved.qkv);
  }
  ops::round_operand(model.ctx, saved.qkv);
  const ops::AttentionShape attention = {batch.sequences, batch.seq_len, shape_.heads, shape_.heads,
                                         shape_.qk_dim(), scale_,        shape_.v_dim};
  ops::attention(model.ctx, attention, saved.qkv, batch.first_key, saved.out, saved.lse);
  ops::gemm_nt(model.ctx, saved.out, wout_, y);
}

// The gradient of the first columns of the input projection, in scratch or dq itself.
TensorView LatentAttentionLayer::query_backward(const ModelContext& model, const TensorView& dq,
                                                const Saved& saved) const {
  if (q_rank_ == 0) return dq;
  Arena& scratch = model.arenas->scratch;
  const TensorView dlatent = scratch.allocate(saved.q_latent.shape, dq.dtype, "latent attention");
  const TensorView din = scratch.allocate(saved.q_in.shape, dq.dtype, "latent attention");
  ops::gemm_backward(model.ctx, dq, saved.q_latent, wq_up_, dlatent, dwq_up_);
  q_norm_.backward(model.ctx, dlatent, saved.q_in, saved.q_norm, din, ops::Accumulate::kNo);
  return din;
}

void LatentAttentionLayer::backward(const ModelContext& model, const Batch& batch,
                                    const TensorView& dy, const TensorView& x, const Saved& saved,
                                    const TensorView& dx) const {
  const ProfileScope profile("attention backward");
  const Context& ctx = model.ctx;
  Arena& scratch = model.arenas->scratch;
  ArenaScope scope(scratch);
  const auto allocate = [&](const Shape& shape) {
    return scratch.allocate(shape, x.dtype, "latent attention backward");
  };
  const TensorView dout = allocate(saved.out.shape);
  const TensorView dqkv = allocate(saved.qkv.shape);
  const TensorView delta = allocate(saved.lse.shape);
  ops::gemm_backward(ctx, dy, saved.out, wout_, dout, dwout_);
  ops::round_operand(ctx, dout);
  const ops::AttentionShape attention = {batch.sequences, batch.seq_len, shape_.heads, shape_.heads,
                                         shape_.qk_dim(), scale_,        shape_.v_dim};
  ops::attention_backward(ctx, attention, dout, saved.qkv, batch.first_key, saved.out, saved.lse,
                          delta, dqkv);

  const Projected dheads = {allocate({x.rows(), shape_.heads * shape_.qk_dim()}),
                            allocate({x.rows(), shape_.rope_dim})};
  const TensorView dkv = allocate({x.rows(), wkv_up_.rows()});
  ops::join_latent_heads_backward(ctx, shape_, dqkv, dheads.q, dkv, dheads.k_rope);
  rotate(model, batch, dheads, ops::Rotation::kBack);

  const TensorView dkv_latent = allocate(saved.kv_latent.shape);
  const TensorView dkv_in = allocate(saved.kv_in.shape);
  ops::gemm_backward(ctx, dkv, saved.kv_latent, wkv_up_, dkv_latent, dwkv_up_);
  kv_norm_.backward(ctx, dkv_latent, saved.kv_in, saved.kv_norm, dkv_in, ops::Accumulate::kNo);
  const TensorView dfirst = query_backward(model, dheads.q, saved);

  const TensorView din = allocate({x.rows(), win_.rows()});
  ops::copy_columns(ctx, dfirst, 0, din, 0, first_width());
  ops::copy_columns(ctx, dkv_in, 0, din, first_width(), kv_rank_);
  ops::copy_columns(ctx, dheads.k_rope, 0, din, first_width() + kv_rank_, shape_.rope_dim);
  ops::gemm_backward(ctx, din, x, win_, dx, dwin_);
}

// Rows of the up projection of keys and values: of a head, `begin` 0 for its key, nope_dim for its
// value.
TensorView LatentAttentionLayer::up_rows(std::int64_t head, std::int64_t begin,
                                         std::int64_t count) const {
  return wkv_up_.slice_rows(head * (shape_.nope_dim + shape_.v_dim) + begin, count);
}

// [tokens, heads (kv_rank + rope_dim)]: a key is up k_latent, so q . key = (q up) . k_latent.
TensorView LatentAttentionLayer::absorb_queries(const ModelContext& model,
                                                const TensorView& q) const {
  Arena& scratch = model.arenas->scratch;
  const std::int64_t width = kv_rank_ + shape_.rope_dim;
  const TensorView absorbed =
      scratch.allocate({q.rows(), shape_.heads * width}, q.dtype, "latent attention");
  for (std::int64_t h = 0; h < shape_.heads; ++h) {
    ArenaScope scope(scratch);
    const TensorView nope = columns_of(model, scratch, q, h * shape_.qk_dim(), shape_.nope_dim);
    const TensorView product = scratch.allocate({q.rows(), kv_rank_}, q.dtype, "latent attention");
    ops::gemm_nn(model.ctx, nope, up_rows(h, 0, shape_.nope_dim), product);
    ops::copy_columns(model.ctx, product, 0, absorbed, h * width, kv_rank_);
    ops::copy_columns(model.ctx, q, h * shape_.qk_dim() + shape_.nope_dim, absorbed,
                      h * width + kv_rank_, shape_.rope_dim);
  }
  return absorbed;
}

// The sum over keys of p value is up (sum of p latents): out [tokens, heads v_dim] from latents
// [tokens, heads kv_rank].
void LatentAttentionLayer::expand_values(const ModelContext& model, const TensorView& latents,
                                         const TensorView& out) const {
  Arena& scratch = model.arenas->scratch;
  for (std::int64_t h = 0; h < shape_.heads; ++h) {
    ArenaScope scope(scratch);
    const TensorView latent = columns_of(model, scratch, latents, h * kv_rank_, kv_rank_);
    const TensorView value =
        scratch.allocate({out.rows(), shape_.v_dim}, out.dtype, "latent attention");
    ops::gemm_nt(model.ctx, latent, up_rows(h, shape_.nope_dim, shape_.v_dim), value);
    ops::copy_columns(model.ctx, value, 0, out, h * shape_.v_dim, shape_.v_dim);
  }
}

void LatentAttentionLayer::forward_cached(const ModelContext& model, const Batch& batch,
                                          const TensorView& x, const KvCache& cache,
                                          const TensorView& y) const {
  const ProfileScope profile("attention");
  const auto layer = static_cast<std::size_t>(layer_);
  Arena& scratch = model.arenas->scratch;
  ArenaScope scope(scratch);
  Saved saved;
  const Projected heads = project(model, batch, x, saved);
  const std::int64_t width = kv_rank_ + shape_.rope_dim;
  const TensorView rows = scratch.allocate({x.rows(), width}, x.dtype, "latent attention");
  ops::copy_columns(model.ctx, saved.kv_latent, 0, rows, 0, kv_rank_);
  ops::copy_columns(model.ctx, heads.k_rope, 0, rows, kv_rank_, shape_.rope_dim);
  ops::round_operand(model.ctx, rows);
  const TensorView lengths = view_of(cache.lengths.data(), {cache.batch});
  ops::cache_append(model.ctx, rows, lengths, cache.keys[layer]);

  const TensorView q = absorb_queries(model, heads.q);
  ops::round_operand(model.ctx, q);
  const TensorView latents =
      scratch.allocate({x.rows(), shape_.heads * kv_rank_}, x.dtype, "latent attention");
  const ops::AttentionShape attention = {batch.sequences, batch.seq_len, shape_.heads, 1,
                                         width,           scale_,        kv_rank_,     window_};
  ops::attention_cached(model.ctx, attention, q, cache.keys[layer], {}, lengths, latents);
  const TensorView out =
      scratch.allocate({x.rows(), shape_.heads * shape_.v_dim}, x.dtype, "latent attention");
  expand_values(model, latents, out);
  ops::gemm_nt(model.ctx, out, wout_, y);
}

}  // namespace witan
