#include "core/model/mtp.h"

#include <algorithm>
#include <optional>
#include <string>

#include "core/base/current_layer.h"
#include "core/base/profile.h"
#include "core/model/balance/balancer.h"
#include "core/ops/columns.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/gemm.h"

namespace witan {
namespace {

int layer_of(const configs::ModelConfig& model, int depth) {
  return static_cast<int>(model.layers()) + depth - 1;
}

std::string name_of(const configs::ModelConfig& model, int depth, const char* part) {
  return "layers." + std::to_string(layer_of(model, depth)) + ".mtp." + part;
}

// Copies what both have of every sequence, its first positions.
void copy_positions(const Context& ctx, const TensorView& from, const TensorView& to,
                    std::int64_t sequences) {
  if (sequences == 0) return;
  const std::int64_t a = from.size() / sequences;
  const std::int64_t b = to.size() / sequences;
  ops::copy_columns(ctx, from.reshape({sequences, a}), 0, to.reshape({sequences, b}), 0,
                    std::min(a, b));
}

}  // namespace

MtpModule::MtpModule(const configs::ModelConfig& model, const ParamStore& params, int depth,
                     std::int64_t tags)
    : index_(layer_of(model, depth)),
      depth_(depth),
      layer_(model, params, index_, ModelDims(model).mtp_moe(), tags),
      token_norm_(model.norm(), params, name_of(model, depth, "token_norm")),
      hidden_norm_(model.norm(), params, name_of(model, depth, "hidden_norm")),
      norm_(model.norm(), params, name_of(model, depth, "norm")),
      projection_(params.value(name_of(model, depth, "projection"))),
      embedding_(params.value("embedding")) {
  if (!params.has_gradients()) return;
  dprojection_ = params.grad(name_of(model, depth, "projection"));
  dembedding_ = params.grad("embedding");
}

// The projection's output [rows, d].
TensorView MtpModule::join(const ModelContext& model, Saved& saved) const {
  Arena& arena = model.arenas->saved;
  const Shape shape = saved.hidden.shape;
  const std::int64_t d = shape[1];
  const DType dtype = saved.hidden.dtype;
  saved.joined = arena.allocate({shape[0], 2 * d}, dtype, "multi-token prediction");
  const TensorView x = arena.allocate(shape, dtype, "multi-token prediction");
  ArenaScope scope(model.arenas->scratch);
  const TensorView normed = model.arenas->scratch.allocate(shape, dtype, "multi-token prediction");
  token_norm_.forward(model.ctx, saved.tokens, normed, arena, saved.token_norm);
  ops::copy_columns(model.ctx, normed, 0, saved.joined, 0, d);
  hidden_norm_.forward(model.ctx, saved.before, normed, arena, saved.hidden_norm);
  ops::copy_columns(model.ctx, normed, 0, saved.joined, d, d);
  ops::gemm_nt(model.ctx, saved.joined, projection_, x);
  return x;
}

void MtpModule::forward_into(const ModelContext& model, const TensorView& before, Saved& saved) {
  const LayerScope scope(index_);
  Arena& arena = model.arenas->saved;
  const Batch& batch = saved.cut.batch;
  TensorView x;
  {
    const ProfileScope profile("multi-token prediction");
    saved.tokens = arena.allocate(saved.hidden.shape, saved.hidden.dtype, "embedding");
    ops::embedding(model.ctx, batch.tokens, embedding_, saved.tokens);
    saved.before = arena.allocate(saved.hidden.shape, saved.hidden.dtype, "multi-token prediction");
    copy_positions(model.ctx, before, saved.before, batch.sequences);
    x = join(model, saved);
  }
  saved.last = arena.allocate(x.shape, x.dtype, "residual stream");
  {
    std::optional<ActivationMemory> made_again;
    if (model.recompute == Recompute::kLayer) made_again.emplace(*model.arenas);
    layer_.forward(model, batch, x, saved.last, saved.layer);
  }
  norm_.forward(model.ctx, saved.last, saved.hidden, arena, saved.norm);
}

void MtpModule::forward(const ModelContext& model, const Batch& main, const TensorView& before,
                        Saved& saved) {
  saved.cut.cut(model.ctx, model.arenas->steady(), main, depth_);
  saved.hidden = model.arenas->saved.allocate({saved.cut.batch.rows(), before.cols()}, before.dtype,
                                              "final norm");
  forward_into(model, before, saved);
}

void MtpModule::forward_only(const ModelContext& model, const Batch& main, const TensorView& before,
                             Saved& saved) {
  saved.cut.cut(model.ctx, model.arenas->steady(), main, depth_);
  saved.hidden = model.arenas->saved.allocate({saved.cut.batch.rows(), before.cols()}, before.dtype,
                                              "final norm");
  const LayerMemory memory(*model.arenas);
  forward_into(model, before, saved);
}

void MtpModule::backward(const ModelContext& model, const TensorView& dhidden, Saved& saved,
                         double gradient_scale, const TensorView& dbefore) {
  const LayerScope layer_scope(index_);
  const Batch& batch = saved.cut.batch;
  Arena& scratch = model.arenas->scratch;
  ArenaScope scope(scratch);
  const ActivationMemory recomputed(*model.arenas);
  const TensorView dx = scratch.allocate(dhidden.shape, dhidden.dtype, "residual backward");
  norm_.backward(model.ctx, dhidden, saved.last, saved.norm, dx, ops::Accumulate::kNo);
  if (model.recompute == Recompute::kLayer) {
    const ProfileScope profile("recompute");
    ArenaScope output(scratch);
    const TensorView y = scratch.allocate(dx.shape, dx.dtype, "recompute");
    layer_.forward(model, batch, saved.layer.x, y, saved.layer);
  }
  layer_.backward(model, batch, saved.layer, dx, gradient_scale);
  split_backward(model, dx, saved, dbefore);
}

// From the gradient of the projection's output to the embedding and the depth before.
void MtpModule::split_backward(const ModelContext& model, const TensorView& dx, const Saved& saved,
                               const TensorView& dbefore) const {
  const ProfileScope profile("multi-token prediction backward");
  const Batch& batch = saved.cut.batch;
  Arena& scratch = model.arenas->scratch;
  const std::int64_t d = dx.cols();
  const TensorView djoined =
      scratch.allocate(saved.joined.shape, dx.dtype, "multi-token prediction backward");
  const TensorView dnormed =
      scratch.allocate(dx.shape, dx.dtype, "multi-token prediction backward");
  const TensorView whole =
      scratch.allocate(dbefore.shape, dx.dtype, "multi-token prediction backward");
  ops::gemm_backward(model.ctx, dx, saved.joined, projection_, djoined, dprojection_);

  ops::copy_columns(model.ctx, djoined, 0, dnormed, 0, d);
  token_norm_.backward(model.ctx, dnormed, saved.tokens, saved.token_norm, dx,
                       ops::Accumulate::kNo);
  ops::embedding_backward(model.ctx, batch.tokens, dx, dembedding_);

  ops::copy_columns(model.ctx, djoined, d, dnormed, 0, d);
  hidden_norm_.backward(model.ctx, dnormed, saved.before, saved.hidden_norm, dx,
                        ops::Accumulate::kNo);
  ops::fill(model.ctx, whole, 0.0);
  copy_positions(model.ctx, dx, whole, batch.sequences);
  ops::add(model.ctx, dbefore, whole, dbefore);
}

MultiTokenPrediction::MultiTokenPrediction(const configs::ModelConfig& model,
                                           const ParamStore& params, std::int64_t tags)
    : config_(model.mtp()),
      saved_(static_cast<std::size_t>(config_.depth())),
      stats_(static_cast<std::size_t>(config_.depth())) {
  for (int depth = 1; depth <= static_cast<int>(config_.depth()); ++depth) {
    modules_.push_back(std::make_unique<MtpModule>(model, params, depth, tags));
  }
}

std::vector<MoeLayer*> MultiTokenPrediction::moe_layers() {
  std::vector<MoeLayer*> layers;
  for (const auto& module : modules_) {
    if (module->layer().moe() != nullptr) layers.push_back(module->layer().moe());
  }
  return layers;
}

void MultiTokenPrediction::begin() {
  for (MtpModule::Saved& saved : saved_) saved.layer.moe.has_choice = false;
}

void MultiTokenPrediction::forward(const ModelContext& model, const Batch& batch,
                                   const TensorView& hidden) {
  for (std::size_t k = 0; k < modules_.size(); ++k) {
    modules_[k]->forward(model, batch, k == 0 ? hidden : saved_[k - 1].hidden, saved_[k]);
  }
}

void MultiTokenPrediction::forward_only(const ModelContext& model, const Batch& batch,
                                        const TensorView& hidden) {
  for (std::size_t k = 0; k < modules_.size(); ++k) {
    modules_[k]->forward_only(model, batch, k == 0 ? hidden : saved_[k - 1].hidden, saved_[k]);
  }
}

void MultiTokenPrediction::count(std::size_t module, double loss, double weight) {
  stats_[module].loss += loss;
  stats_[module].objective += weight * loss;
  stats_[module].tokens += saved_[module].cut.batch.loss_tokens;
}

void MultiTokenPrediction::backward(const ModelContext& model, const Batch& batch,
                                    const OutputHead& head, double gradient_scale,
                                    const TensorView& dhidden) {
  Arena& scratch = model.arenas->scratch;
  ArenaScope scope(scratch);
  const double weight = scheduled(config_.loss_weight(), config_.schedule(), batch.progress) /
                        static_cast<double>(config_.depth());
  std::vector<TensorView> dh = {dhidden};  // of every depth
  for (std::size_t k = 0; k < modules_.size(); ++k) {
    const MtpModule::Saved& saved = saved_[k];
    dh.push_back(scratch.allocate(saved.hidden.shape, saved.hidden.dtype,
                                  "multi-token prediction backward"));
    count(
        k,
        head.backward(model.ctx, saved.hidden, saved.cut.batch.targets, weight, dh.back(), scratch),
        weight);
  }
  for (std::size_t k = modules_.size(); k-- > 0;) {
    modules_[k]->backward(model, dh[k + 1], saved_[k], gradient_scale, dh[k]);
  }
}

void MultiTokenPrediction::losses(const ModelContext& model, const OutputHead& head) {
  Arena& scratch = model.arenas->scratch;
  for (std::size_t k = 0; k < modules_.size(); ++k) {
    ArenaScope scope(scratch);
    const TensorView& hidden = saved_[k].hidden;
    const TensorView loss =
        scratch.allocate({hidden.rows()}, hidden.dtype, "multi-token prediction");
    count(k, head.losses(model.ctx, hidden, saved_[k].cut.batch.targets, loss, scratch), 0.0);
  }
}

}  // namespace witan
