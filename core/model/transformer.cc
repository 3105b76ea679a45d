#include "core/model/transformer.h"

#include <algorithm>
#include <optional>

#include "core/base/current_layer.h"
#include "core/base/profile.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/sliding_window.h"

namespace witan {

Transformer::Transformer(const configs::ModelConfig& model, ParamStore& params,
                         TokenExchange& exchange, const Context& ctx, const Options& options)
    : dims_(model),
      window_(model.attention().sliding_window()),
      params_(params),
      arenas_(ctx.device, exchange.memory()),
      model_{ctx, &exchange, &arenas_, nullptr, options.recompute, options.exchange_chunks},
      embedding_(params.value("embedding")),
      final_norm_(model.norm(), params, "final_norm"),
      saved_(static_cast<std::size_t>(dims_.layers)) {
  params.keep_rounded(ctx);
  model_.max_rows = options.max_rows;
  model_.cuda_graphs = options.cuda_graphs && ctx.device.is_cuda();
  if (model_.cuda_graphs) arenas_.keep_steady_apart();
  model_.all_ranks = options.all_ranks;
  model_.expert_ranks = options.expert_ranks;
  if (params.has_gradients()) dembedding_ = params.grad("embedding");
  const char* head = model.tied_head() ? "embedding" : "head";
  head_.emplace(params.value(head), params.has_gradients() ? params.grad(head) : TensorView{});
  for (int layer = 0; layer < static_cast<int>(dims_.layers); ++layer) {
    const bool is_moe = dims_.is_moe[static_cast<std::size_t>(layer)];
    layers_.push_back(std::make_unique<DecoderLayer>(model, params, layer, is_moe, options.tags));
    if (is_moe) moe_layers_.push_back(layers_.back()->moe());
  }
  if (!model.has_mtp()) return;
  mtp_.emplace(model, params, options.tags);
  for (MoeLayer* layer : mtp_->moe_layers()) moe_layers_.push_back(layer);
}

void Transformer::begin(const Batch& batch) {
  arenas_.reset();
  params_.refresh_rounded(model_.ctx);
  for (DecoderLayer::Saved& saved : saved_) saved.moe.has_choice = false;
  if (mtp_) mtp_->begin();
  WITAN_CHECK(batch.tokens.size() == batch.rows(), "batch: ", batch.tokens.size(), " tokens for ",
              batch.sequences, " sequences of ", batch.seq_len);
  batch_ = batch;
  if (batch.first_key.empty()) return;  // decoding
  const auto allocate = [&] {
    return arenas_.steady().allocate({batch.rows()}, DType::kInt32, "attention");
  };
  // Each micro-batch of a step has columns of its own; a graph reads from one address.
  const auto keep = [&](TensorView& column) {
    const TensorView kept = allocate();
    ops::copy(model_.ctx, column, kept);
    column = kept;
  };
  if (model_.cuda_graphs) keep(batch_.positions);
  if (window_ > 0) {
    batch_.first_key = allocate();
    ops::narrow_to_window(model_.ctx, window_, batch.seq_len, batch.first_key, batch_.first_key);
  } else if (model_.cuda_graphs) {
    keep(batch_.first_key);
  }
}

TensorView Transformer::embed(const Batch& batch) {
  const ProfileScope profile("embedding");
  const TensorView x =
      arenas_.steady().allocate({batch.rows(), dims_.d_model}, params_.dtype(), "embedding");
  ops::embedding(model_.ctx, batch.tokens, embedding_, x);
  return x;
}

void Transformer::finish(const TensorView& x) {
  last_ = x;
  hidden_ = arenas_.saved.allocate(x.shape, x.dtype, "final norm");
  final_norm_.forward(model_.ctx, x, hidden_, arenas_.saved, final_saved_);
}

void Transformer::forward_train(const Batch& batch) {
  begin(batch);
  TensorView x = embed(batch);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const TensorView y = arenas_.steady().allocate(x.shape, x.dtype, "residual stream");
    std::optional<ActivationMemory> made_again;
    if (model_.recompute == Recompute::kLayer) made_again.emplace(arenas_);
    const LayerScope layer(static_cast<int>(i));
    layers_[i]->forward(model_, batch_, x, y, saved_[i]);
    x = y;
  }
  finish(x);
  if (mtp_) mtp_->forward(model_, batch_, hidden_);
}

void Transformer::forward(const Batch& batch, Mtp mtp) {
  begin(batch);
  const TensorView x = embed(batch);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LayerMemory memory(arenas_);
    const LayerScope layer(static_cast<int>(i));
    layers_[i]->forward(model_, batch_, x, x, saved_[i]);
  }
  finish(x);
  if (mtp_ && mtp == Mtp::kYes) mtp_->forward_only(model_, batch_, hidden_);
}

void Transformer::forward_cached(const Batch& batch, KvCache& cache) {
  begin(batch);
  for (std::int32_t& length : cache.lengths) length += static_cast<std::int32_t>(batch.seq_len);
  const TensorView x = embed(batch);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LayerMemory memory(arenas_);
    const LayerScope layer(static_cast<int>(i));
    layers_[i]->forward_cached(model_, batch_, x, cache, x, saved_[i]);
  }
  finish(x);
}

KvCache Transformer::make_cache(std::int64_t batch, std::int64_t capacity) const {
  return {dims_.layers,
          batch,
          capacity,
          dims_.cached_key_width(),
          dims_.cached_value_width(),
          params_.dtype(),
          params_.device()};
}

void Transformer::logits(std::int64_t begin, std::int64_t count, const TensorView& logits) {
  head_->logits(model_.ctx, hidden_.slice_rows(begin, count), logits);
}

double Transformer::losses(const Batch& batch, const TensorView& loss) {
  return head_->losses(model_.ctx, hidden_, batch.targets, loss, arenas_.scratch);
}

void Transformer::count_mtp_losses() {
  if (mtp_) mtp_->losses(model_, *head_);
}

void Transformer::pool_counts() {
  model_.pooled_counts = {};
  const auto pools = [](const MoeLayer* layer) { return layer->pools_layers(); };
  if (std::none_of(moe_layers_.begin(), moe_layers_.end(), pools)) return;
  pooled_counts_.assign(static_cast<std::size_t>(dims_.experts), 0);
  for (const MoeLayer* layer : moe_layers_) {
    for (std::size_t e = 0; e < pooled_counts_.size(); ++e) {
      pooled_counts_[e] += layer->batch_counts()[e];
    }
  }
  model_.pooled_counts = pooled_counts_;
}

double Transformer::backward(const Batch& batch, double gradient_scale,
                             ops::Accumulate expert_gradients,
                             const std::function<void(int layer)>& layer_done) {
  model_.expert_gradients = expert_gradients;
  pool_counts();
  ArenaScope scope(arenas_.scratch);
  const TensorView dhidden =
      arenas_.scratch.allocate(hidden_.shape, hidden_.dtype, "final norm backward");
  const TensorView dx = arenas_.scratch.allocate(hidden_.shape, hidden_.dtype, "residual backward");
  const double loss =
      head_->backward(model_.ctx, hidden_, batch.targets, 1.0, dhidden, arenas_.scratch);
  if (mtp_) mtp_->backward(model_, batch_, *head_, gradient_scale, dhidden);
  final_norm_.backward(model_.ctx, dhidden, last_, final_saved_, dx, ops::Accumulate::kNo);

  for (std::size_t i = layers_.size(); i-- > 0;) {
    const ActivationMemory recomputed(arenas_);
    const LayerScope layer(static_cast<int>(i));
    if (model_.recompute == Recompute::kLayer) {
      const ProfileScope profile("recompute");
      // Same input, same choice, same bits; only the output is not needed again.
      ArenaScope output(arenas_.scratch);
      const TensorView y = arenas_.scratch.allocate(dx.shape, dx.dtype, "recompute");
      layers_[i]->forward(model_, batch_, saved_[i].x, y, saved_[i]);
    }
    layers_[i]->backward(model_, batch_, saved_[i], dx, gradient_scale);
    if (layer_done) layer_done(static_cast<int>(i));
  }
  const ProfileScope profile("embedding backward");
  ops::embedding_backward(model_.ctx, batch.tokens, dx, dembedding_);
  return loss;
}

}  // namespace witan
