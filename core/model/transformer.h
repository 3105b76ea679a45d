// The decoder-only transformer: embedding, decoder layers, final norm, head, cross-entropy. Reads
// top to bottom; the backward is the forward reversed.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/model/batch.h"
#include "core/model/decoder_layer.h"
#include "core/model/kv_cache.h"
#include "core/model/model_context.h"
#include "core/model/mtp.h"
#include "core/model/norm_layer.h"
#include "core/model/output_head.h"
#include "core/model/param_store.h"

namespace witan {

class Transformer {
 public:
  struct Options {
    Recompute recompute = Recompute::kNone;
    std::int64_t tags = 1;  // token tags that are counted apart in MoeStats
    int exchange_chunks = 1;
    std::int64_t max_rows = 0;  // as in ModelContext
    // Must outlive the model.
    RankGroup* all_ranks = &RankGroup::alone();
    RankGroup* expert_ranks = &RankGroup::alone();
    bool cuda_graphs = false;  // as in ModelContext
  };
  // `params` and `exchange` outlive the model.
  Transformer(const configs::ModelConfig& model, ParamStore& params, TokenExchange& exchange,
              const Context& ctx, const Options& options);

  // One micro-batch: forward_train, then backward; everything in between is kept in the arenas,
  // which the next forward resets. Modules of multi-token prediction take part. Collective over the
  // expert-parallel group: every rank calls it the same number of times, also with an empty batch.
  void forward_train(const Batch& batch);
  // Adds the gradient of the sum of the losses of the batch's targets (not divided by anything), of
  // the weighted losses of multi-token prediction and of the balancing losses to the parameters'
  // gradients; returns the sum of the first, while mtp_stats() count the second.
  // gradient_scale: BalanceInput.
  // With expert_gradients kNo it overwrites the experts' gradients, which need not be zero then:
  // for the first micro-batch of a step, since most memory of a sparse model is theirs.
  // `layer_done` is told each decoder layer when all work on its gradients is enqueued.
  double backward(const Batch& batch, double gradient_scale,
                  ops::Accumulate expert_gradients = ops::Accumulate::kYes,
                  const std::function<void(int layer)>& layer_done = {});

  // Forward only, keeping nothing; MoeStats count. Then losses() or logits(). With Mtp::kYes
  // through the modules of multi-token prediction too, if there are any.
  enum class Mtp : bool { kNo = false, kYes = true };
  void forward(const Batch& batch, Mtp mtp = Mtp::kNo);
  // Decoding: batch.seq_len new tokens of each sequence behind those in the cache, whose lengths
  // grow.
  void forward_cached(const Batch& batch, KvCache& cache);

  // After any forward: loss of every target [rows] into `loss`, 0 where it does not count; returns
  // the sum.
  double losses(const Batch& batch, const TensorView& loss);
  // After a forward with Mtp::kYes: counts the losses of its modules in mtp_stats().
  void count_mtp_losses();
  // logits [count, vocab] of the rows [begin, begin + count).
  void logits(std::int64_t begin, std::int64_t count, const TensorView& logits);

  // Those of multi-token prediction behind the others.
  std::vector<MoeLayer*>& moe_layers() { return moe_layers_; }
  // By depth; empty without multi-token prediction.
  std::span<MtpStats> mtp_stats() { return mtp_ ? mtp_->stats() : std::span<MtpStats>{}; }
  const std::vector<std::unique_ptr<DecoderLayer>>& layers() const { return layers_; }
  ModelArenas& arenas() { return arenas_; }
  const ModelArenas& arenas() const { return arenas_; }
  KvCache make_cache(std::int64_t batch, std::int64_t capacity) const;
  void set_hook(RoutingHook* hook) { model_.hook = hook; }
  const ModelDims& dims() const { return dims_; }
  DType dtype() const { return params_.dtype(); }

 private:
  // Leaves the batch that the layers see: with the model's window in its first_key and, for graphs,
  // columns whose addresses repeat.
  void begin(const Batch& batch);
  TensorView embed(const Batch& batch);
  void finish(const TensorView& x);
  void pool_counts();

  ModelDims dims_;
  std::int64_t window_;  // 0: none
  ParamStore& params_;
  ModelArenas arenas_;
  ModelContext model_;
  TensorView embedding_, dembedding_;
  std::optional<OutputHead> head_;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  std::vector<MoeLayer*> moe_layers_;
  std::vector<std::int64_t> pooled_counts_;  // [experts] choices of the micro-batch, of all of them
  NormLayer final_norm_;
  std::optional<MultiTokenPrediction> mtp_;

  std::vector<DecoderLayer::Saved> saved_;  // per layer; their host vectors keep their capacity
  NormLayer::Saved final_saved_;
  Batch batch_;        // as begin() leaves it
  TensorView last_;    // [rows, d] output of the last layer
  TensorView hidden_;  // [rows, d] after the final norm
};

}  // namespace witan
