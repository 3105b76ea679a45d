#include "core/model/decoder_layer.h"

#include <string>

#include "core/base/profile.h"
#include "core/ops/elementwise.h"

namespace witan {
namespace {

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
  Arena& arena = model.arenas->saved;
  saved.x = x;
  saved.attention_in = arena.allocate(x.shape, x.dtype, "decoder layer");
  attention_norm_.forward(model.ctx, x, saved.attention_in, arena, saved.attention_norm);
  saved.middle = arena.allocate(x.shape, x.dtype, "decoder layer");
  if (latent_) {
    latent_->forward(model, batch, saved.attention_in, saved.middle, saved.latent);
  } else {
    attention_->forward(model, batch, saved.attention_in, saved.middle, saved.attention);
  }
  ops::add(model.ctx, x, saved.middle, saved.middle);
  feed_forward(model, batch, y, saved);
}

void DecoderLayer::forward_cached(const ModelContext& model, const Batch& batch,
                                  const TensorView& x, const KvCache& cache, const TensorView& y,
                                  Saved& saved) {
  Arena& arena = model.arenas->saved;
  saved.attention_in = arena.allocate(x.shape, x.dtype, "decoder layer");
  attention_norm_.forward(model.ctx, x, saved.attention_in, arena, saved.attention_norm);
  saved.middle = arena.allocate(x.shape, x.dtype, "decoder layer");
  if (latent_) {
    latent_->forward_cached(model, batch, saved.attention_in, cache, saved.middle);
  } else {
    attention_->forward_cached(model, batch, saved.attention_in, cache, saved.middle);
  }
  ops::add(model.ctx, x, saved.middle, saved.middle);
  feed_forward(model, batch, y, saved);
}

void DecoderLayer::feed_forward(const ModelContext& model, const Batch& batch, const TensorView& y,
                                Saved& saved) {
  Arena& arena = model.arenas->saved;
  saved.ffn_in = arena.allocate(saved.middle.shape, saved.middle.dtype, "decoder layer");
  ffn_norm_.forward(model.ctx, saved.middle, saved.ffn_in, arena, saved.ffn_norm);
  ArenaScope scope(model.arenas->scratch);
  const TensorView branch = model.arenas->scratch.allocate(y.shape, y.dtype, "decoder layer");
  if (moe_) {
    moe_->forward(model, batch, saved.ffn_in, branch, saved.moe);
  } else {
    const ProfileScope profile("dense ffn");
    ffn_->forward(model.ctx, saved.ffn_in, branch, arena, saved.ffn);
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
  ffn_norm_.backward(model.ctx, dbranch, saved.middle, saved.ffn_norm, dx, ops::Accumulate::kYes);

  if (latent_) {
    latent_->backward(model, batch, dx, saved.attention_in, saved.latent, dbranch);
  } else {
    attention_->backward(model, batch, dx, saved.attention_in, saved.attention, dbranch);
  }
  attention_norm_.backward(model.ctx, dbranch, saved.x, saved.attention_norm, dx,
                           ops::Accumulate::kYes);
}

}  // namespace witan
