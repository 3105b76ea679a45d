// One decoder layer: x += attention(norm(x)); x += ffn_or_moe(norm(x)).
#pragma once

#include <memory>
#include <optional>

#include "core/model/attention_layer.h"
#include "core/model/ffn.h"
#include "core/model/latent_attention_layer.h"
#include "core/model/moe_layer.h"
#include "core/model/norm_layer.h"

namespace witan {

class DecoderLayer {
 public:
  DecoderLayer(const configs::ModelConfig& model, const ParamStore& params, int layer, bool is_moe,
               std::int64_t tags);

  struct Saved {
    TensorView x;  // [tokens, d] input; owned by the caller
    NormLayer::Saved attention_norm, ffn_norm;
    TensorView attention_in;  // [tokens, d] after the first norm
    AttentionLayer::Saved attention;
    LatentAttentionLayer::Saved latent;
    TensorView middle;  // [tokens, d] residual stream between attention and feed-forward
    TensorView ffn_in;  // [tokens, d] after the second norm
    Ffn::Saved ffn;
    MoeLayer::Saved moe;
  };

  // x, y [tokens, d]; everything but y is kept in arenas.saved and arenas.choice. y may alias x
  // unless a backward follows.
  void forward(const ModelContext& model, const Batch& batch, const TensorView& x,
               const TensorView& y, Saved& saved);
  // dx [tokens, d]: the gradient of y on entry, of x on return (the residual stream accumulates).
  void backward(const ModelContext& model, const Batch& batch, Saved& saved, const TensorView& dx,
                double gradient_scale);
  // Decoding; see AttentionLayer::forward_cached. y may alias x.
  void forward_cached(const ModelContext& model, const Batch& batch, const TensorView& x,
                      const KvCache& cache, const TensorView& y, Saved& saved);

  // Of the graphs, forward and backward; null before the first call with cuda_graphs.
  const GraphSegment* forward_graph() const { return forward_graph_.get(); }
  const GraphSegment* backward_graph() const { return backward_graph_.get(); }
  MoeLayer* moe() { return moe_ ? &*moe_ : nullptr; }

 private:
  // Memory of the first half, and its input.
  void begin(const ModelContext& model, const TensorView& x, Saved& saved) const;
  void allocate_ffn_in(const ModelContext& model, Saved& saved) const;
  // What the work of the first half, forward and backward, follows from.
  GraphKey key_of(const ModelContext& model, const Batch& batch, const Saved& saved) const;
  void feed_forward(const ModelContext& model, const Batch& batch, const TensorView& y,
                    Saved& saved);

  NormLayer attention_norm_, ffn_norm_;
  // With ModelContext::cuda_graphs: from the norm in front of attention to the one behind it.
  std::unique_ptr<GraphSegment> forward_graph_, backward_graph_;
  std::optional<AttentionLayer> attention_;  // one of the two
  std::optional<LatentAttentionLayer> latent_;
  std::optional<Ffn> ffn_;
  std::optional<MoeLayer> moe_;
};

}  // namespace witan
