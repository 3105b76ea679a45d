// Multi-head latent attention (DeepSeek-V2, Liu et al. 2024, section 2.1): queries, keys and values
// of all heads are made from narrow latents of the token, and positions enter through a rotary part
// of its own, whose key the heads share.
#pragma once

#include "core/model/batch.h"
#include "core/model/kv_cache.h"
#include "core/model/model_context.h"
#include "core/model/norm_layer.h"
#include "core/model/param_store.h"
#include "core/ops/attention.h"
#include "core/ops/latent_heads.h"

namespace witan {

class LatentAttentionLayer {
 public:
  LatentAttentionLayer(const configs::ModelConfig& model, const ParamStore& params, int layer);

  struct Saved {
    TensorView q_in, q_latent;    // [tokens, q_rank] before and after their norm; only with q_rank
    TensorView kv_in, kv_latent;  // [tokens, kv_rank] before and after their norm
    NormLayer::Saved q_norm, kv_norm;
    TensorView qkv;  // [tokens, heads (2 head_dim + v_dim)], rotated
    TensorView out;  // [tokens, heads v_dim] before the output projection
    TensorView lse;  // [tokens, heads]
  };

  // x, y [tokens, d].
  void forward(const ModelContext& model, const Batch& batch, const TensorView& x,
               const TensorView& y, Saved& saved) const;
  // dx overwritten; parameter gradients accumulate.
  void backward(const ModelContext& model, const Batch& batch, const TensorView& dy,
                const TensorView& x, const Saved& saved, const TensorView& dx) const;

  // Decoding: appends this batch's latents and rotary keys to the cache and attends to all of it.
  // The heads' keys and values are never made: their projections are multiplied into the query and
  // the output ("absorbed"). cache.lengths already counts the new tokens.
  void forward_cached(const ModelContext& model, const Batch& batch, const TensorView& x,
                      const KvCache& cache, const TensorView& y) const;

 private:
  // What a token becomes before its heads are joined.
  struct Projected {
    TensorView q;       // [tokens, heads head_dim], its rope parts rotated
    TensorView k_rope;  // [tokens, rope_dim], rotated
  };
  // q and k_rope lie in scratch, the latents in saved.
  Projected project(const ModelContext& model, const Batch& batch, const TensorView& x,
                    Saved& saved) const;
  TensorView query_backward(const ModelContext& model, const TensorView& dq,
                            const Saved& saved) const;
  TensorView absorb_queries(const ModelContext& model, const TensorView& q) const;
  void expand_values(const ModelContext& model, const TensorView& latents,
                     const TensorView& out) const;
  TensorView up_rows(std::int64_t head, std::int64_t begin, std::int64_t count) const;
  std::int64_t first_width() const;  // columns of the input projection in front of the latent
  void rotate(const ModelContext& model, const Batch& batch, const Projected& heads,
              ops::Rotation rotation) const;

  ops::LatentShape shape_;
  std::int64_t q_rank_, kv_rank_;
  std::int64_t window_ = 0;  // 0: none
  double scale_;
  int layer_;
  NormLayer q_norm_, kv_norm_;
  TensorView win_, wq_up_, wkv_up_, wout_;
  TensorView dwin_, dwq_up_, dwkv_up_, dwout_;
};

}  // namespace witan
