// Multi-token prediction (DeepSeek-V3, arXiv 2412.19437, section 2.2): behind the main model stand
// modules k = 1 .. depth, each of which predicts one token further ahead, in training only.
//   x^k_i = W_k [RMSNorm(embedding(t_{i+k})) ; RMSNorm(h^{k-1}_i)]    for i < T - k
//   h^k = norm_k(layer_k(x^k)),  logits of t_{i+k+1} = head(h^k_i)
// Embedding and head are those of the main model; h^0 and h^k are what the head reads, behind the
// norm. The order within the brackets is that of the published weights (the paper writes the
// other). The layer is like the main model's last one.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/model/decoder_layer.h"
#include "core/model/model_context.h"
#include "core/model/mtp_batch.h"
#include "core/model/norm_layer.h"
#include "core/model/output_head.h"
#include "core/model/param_store.h"

namespace witan {

// What one depth measured since the last clear(), summed over this rank's tokens.
struct MtpStats {
  double loss = 0.0;        // sum of its losses
  double objective = 0.0;   // the same times its weight in the loss that is trained
  std::int64_t tokens = 0;  // targets that count
  void clear() { *this = {}; }
};

// One module.
class MtpModule {
 public:
  // `depth` counts from 1. Reads the tensors of layers.(layers + depth - 1).
  MtpModule(const configs::ModelConfig& model, const ParamStore& params, int depth,
            std::int64_t tags);

  struct Saved {
    MtpBatch cut;
    TensorView tokens;  // [rows, d] embeddings
    TensorView before;  // [rows, d] h of the depth before, at the positions that are left
    TensorView joined;  // [rows, 2 d] both, behind their norms
    NormLayer::Saved token_norm, hidden_norm, norm;
    DecoderLayer::Saved layer;
    TensorView last;    // [rows, d] output of the layer
    TensorView hidden;  // [rows, d] h
  };

  // before [sequences (seq_len - depth + 1), d]: h of the depth before. Fills `saved`, in
  // arenas.saved and those of the routing.
  void forward(const ModelContext& model, const Batch& main, const TensorView& before,
               Saved& saved);
  // The same, keeping nothing but saved.hidden.
  void forward_only(const ModelContext& model, const Batch& main, const TensorView& before,
                    Saved& saved);
  // dhidden [rows, d] of h; dbefore [as in forward] accumulates.
  void backward(const ModelContext& model, const TensorView& dhidden, Saved& saved,
                double gradient_scale, const TensorView& dbefore);

  DecoderLayer& layer() { return layer_; }

 private:
  TensorView join(const ModelContext& model, Saved& saved) const;
  void forward_into(const ModelContext& model, const TensorView& before, Saved& saved);
  void split_backward(const ModelContext& model, const TensorView& dx, const Saved& saved,
                      const TensorView& dbefore) const;

  int index_;  // of the layer
  int depth_;
  DecoderLayer layer_;
  NormLayer token_norm_, hidden_norm_, norm_;
  TensorView projection_, dprojection_;  // [d, 2 d]
  TensorView embedding_, dembedding_;    // [vocab, d] of the main model
};

// All modules, one behind the other.
class MultiTokenPrediction {
 public:
  // model.mtp must be set; `params` outlives this.
  MultiTokenPrediction(const configs::ModelConfig& model, const ParamStore& params,
                       std::int64_t tags);

  void begin();  // a new micro-batch
  // hidden [rows, d]: what the head of the main model reads. As Transformer::forward_train.
  void forward(const ModelContext& model, const Batch& batch, const TensorView& hidden);
  void forward_only(const ModelContext& model, const Batch& batch, const TensorView& hidden);
  // Behind forward(): the gradient of loss_weight / depth times the sum of the losses of every
  // depth. dhidden [rows, d] accumulates. Counts in stats().
  void backward(const ModelContext& model, const Batch& batch, const OutputHead& head,
                double gradient_scale, const TensorView& dhidden);
  // Behind either forward: counts the losses in stats() and leaves the gradients alone.
  void losses(const ModelContext& model, const OutputHead& head);

  std::span<MtpStats> stats() { return stats_; }
  std::vector<MoeLayer*> moe_layers();

 private:
  void count(std::size_t module, double loss, double weight);

  configs::MtpConfig config_;
  std::vector<std::unique_ptr<MtpModule>> modules_;
  std::vector<MtpModule::Saved> saved_;
  std::vector<MtpStats> stats_;
};

}  // namespace witan
