// Causal grouped-query attention with RoPE: projections around ops::rope and ops::attention.
#pragma once

#include "core/model/batch.h"
#include "core/model/kv_cache.h"
#include "core/model/model_context.h"
#include "core/model/param_store.h"
#include "core/ops/attention.h"
#include "core/ops/rope.h"
#include "core/tensor/graph_key.h"

namespace witan {

class AttentionLayer {
 public:
  AttentionLayer(const configs::ModelConfig& model, const ParamStore& params, int layer);

  struct Saved {
    TensorView projected;  // [tokens, qkv_rows] before qk-norm and RoPE; only with qk-norm
    TensorView qkv;        // [tokens, qkv_rows] after them
    TensorView qk_rstd;    // [tokens, rope_.norms()]; only with qk-norm
    TensorView out;        // [tokens, heads head_dim] before the output projection
    TensorView lse;        // [tokens, heads]
  };

  // What a forward of x keeps.
  void allocate(const ModelContext& model, const TensorView& x, Saved& saved) const;
  // x, y [tokens, d]; `saved` is allocated.
  void forward(const ModelContext& model, const Batch& batch, const TensorView& x,
               const TensorView& y, const Saved& saved) const;
  // dx overwritten; parameter gradients accumulate.
  void backward(const ModelContext& model, const Batch& batch, const TensorView& dy,
                const TensorView& x, const Saved& saved, const TensorView& dx) const;
  // What both follow from besides x, y and their gradients.
  void add_to_key(GraphKey& key, const Batch& batch, const Saved& saved) const;

  // Decoding: appends this batch's keys and values to the cache and attends to all of it.
  // cache.lengths already counts the new tokens.
  void forward_cached(const ModelContext& model, const Batch& batch, const TensorView& x,
                      const KvCache& cache, const TensorView& y) const;

 private:
  void allocate_projected(const ModelContext& model, const TensorView& x, Saved& saved) const;
  void project(const ModelContext& model, const Batch& batch, const TensorView& x,
               const Saved& saved) const;
  void project_out(const ModelContext& model, const TensorView& out, const TensorView& y) const;
  ops::AttentionShape shape(const Batch& batch) const;

  ops::RopeShape rope_;
  std::int64_t window_ = 0;  // 0: none
  std::int64_t qkv_rows_;
  int layer_;
  TensorView wqkv_, bqkv_, q_norm_, k_norm_, wout_, bout_;
  TensorView dwqkv_, dbqkv_, dq_norm_, dk_norm_, dwout_, dbout_;
};

}  // namespace witan
