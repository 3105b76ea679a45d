#include "core/model/decoder_layer.h"

#include <string>

#include "core/base/profile.h"
#include "core/model/graph_part.h"
#include "core/ops/elementwise.h"

namespace witan {
namespace {

constexpr const char* kAttentionGraph = "attention graph";

std::string name_of_layer(int layer, const char* part) {
  return "layers." + std::to_string(layer) + "." + part;
}

}  // namespace

DecoderLayer::DecoderLayer(const configs::ModelConfig& model, const ParamStore& params, int layer,
                           bool is_moe, std::int64_t tags)
    : attention_norm_(model.norm(), params, name_of_layer(layer, "attention_norm")),
      ffn_norm_(model.norm(), params, name_of_layer(layer, "ffn_norm")) {
  if (model.attention().has_latent()) {
    latent_.emplace(model, params, layer);
  } else {
    attention_.emplace(model, params, layer);
  }
  if (is_moe) {
    moe_.emplace(model, params, layer, tags);
  } else {
    ffn_.emplace(params, name_of_layer(layer, "ffn"));
  }
}

void DecoderLayer::forward(const ModelContext& model, const Batch& batch, const TensorView& x,
                           const TensorView& y, Saved& saved) {
  const Context& ctx = model.ctx;
  begin(model, x, saved);
  const auto norm = [&] {
    attention_norm_.forward(ctx, x, saved.attention_in, saved.attention_norm);
  };
  const auto add_and_norm = [&] {
    ffn_norm_.forward_sum(ctx, x, saved.middle, saved.middle, saved.ffn_in, saved.ffn_norm);
  };
  if (latent_) {
    norm();
    latent_->forward(model, batch, saved.attention_in, saved.middle, saved.latent);
    allocate_ffn_in(model, saved);
    add_and_norm();
  } else {
    attention_->allocate(model, x, saved.attention);
    allocate_ffn_in(model, saved);
    enqueue_part(
        ctx, model.cuda_graphs, kAttentionGraph, forward_graph_,
        [&] { return key_of(model, batch, saved); },
        [&] {
          norm();
          attention_->forward(model, batch, saved.attention_in, saved.middle, saved.attention);
          add_and_norm();
        });
  }
  feed_forward(model, batch, y, saved);
}

void DecoderLayer::forward_cached(const ModelContext& model, const Batch& batch,
                                  const TensorView& x, const KvCache& cache, const TensorView& y,
                                  Saved& saved) {
  begin(model, x, saved);
  attention_norm_.forward(model.ctx, x, saved.attention_in, saved.attention_norm);
  if (latent_) {
    latent_->forward_cached(model, batch, saved.attention_in, cache, saved.middle);
  } else {
    attention_->forward_cached(model, batch, saved.attention_in, cache, saved.middle);
  }
  allocate_ffn_in(model, saved);
  ffn_norm_.forward_sum(model.ctx, x, saved.middle, saved.middle, saved.ffn_in, saved.ffn_norm);
  feed_forward(model, batch, y, saved);
}

void DecoderLayer::begin(const ModelContext& model, const TensorView& x, Saved& saved) const {
  Arena& arena = model.arenas->steady();
  saved.x = x;
  saved.attention_in = arena.allocate(x.shape, x.dtype, "decoder layer");
  attention_norm_.allocate(x, arena, saved.attention_norm);
  saved.middle = arena.allocate(x.shape, x.dtype, "decoder layer");
}

void DecoderLayer::allocate_ffn_in(const ModelContext& model, Saved& saved) const {
  Arena& arena = model.arenas->steady();
  saved.ffn_in = arena.allocate(saved.middle.shape, saved.middle.dtype, "decoder layer");
  ffn_norm_.allocate(saved.middle, arena, saved.ffn_norm);
}

// Parameters and their gradients stay where they are for the life of the layer.
GraphKey DecoderLayer::key_of(const ModelContext& model, const Batch& batch,
                              const Saved& saved) const {
  GraphKey key;
  add_to(key, model.ctx);
  add_to(key, model.arenas->scratch);
  for (const TensorView& tensor :
       {saved.x, saved.attention_in, saved.attention_norm.mean, saved.attention_norm.rstd,
        saved.middle, saved.ffn_in, saved.ffn_norm.mean, saved.ffn_norm.rstd}) {
    add_to(key, tensor);
  }
  attention_->add_to_key(key, batch, saved.attention);
  return key;
}

void DecoderLayer::feed_forward(const ModelContext& model, const Batch& batch, const TensorView& y,
                                Saved& saved) {
  ArenaScope scope(model.arenas->scratch);
  const TensorView branch = model.arenas->scratch.allocate(y.shape, y.dtype, "decoder layer");
  if (moe_) {
    moe_->forward(model, batch, saved.ffn_in, branch, saved.moe);
  } else {
    const ProfileScope profile("dense ffn");
    ffn_->forward(model.ctx, saved.ffn_in, branch, model.arenas->saved, saved.ffn);
  }
  ops::add(model.ctx, saved.middle, branch, y);
}

void DecoderLayer::backward(const ModelContext& model, const Batch& batch, Saved& saved,
                            const TensorView& dx, double gradient_scale) {
  Arena& scratch = model.arenas->scratch;
  ArenaScope scope(scratch);
  const TensorView dbranch = scratch.allocate(dx.shape, dx.dtype, "decoder layer backward");
  if (moe_) {
    moe_->backward(model, batch, dx, saved.ffn_in, saved.moe, dbranch, gradient_scale);
  } else {
    const ProfileScope profile("dense ffn backward");
    ffn_->backward(model.ctx, dx, saved.ffn_in, saved.ffn, dbranch, scratch);
  }
  const auto backward_of = [&](const auto& attention, const auto& attention_saved) {
    ffn_norm_.backward(model.ctx, dbranch, saved.middle, saved.ffn_norm, dx, ops::Accumulate::kYes);
    attention.backward(model, batch, dx, saved.attention_in, attention_saved, dbranch);
    attention_norm_.backward(model.ctx, dbranch, saved.x, saved.attention_norm, dx,
                             ops::Accumulate::kYes);
  };
  if (latent_) return backward_of(*latent_, saved.latent);
  enqueue_part(
      model.ctx, model.cuda_graphs, kAttentionGraph, backward_graph_,
      [&] {
        GraphKey key = key_of(model, batch, saved);
        add_to(key, dx);
        add_to(key, dbranch);
        return key;
      },
      [&] { backward_of(*attention_, saved.attention); });
}

}  // namespace witan
