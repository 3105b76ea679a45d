#include "core/model/router.h"

#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/ops/upload.h"
#include "core/tensor/twin.h"

namespace witan {
namespace {

using configs::RouterConfig;

ops::Score score_of(const RouterConfig& config) {
  switch (config.score()) {
    case RouterConfig::SIGMOID: return ops::Score::kSigmoid;
    case RouterConfig::SQRT_SOFTPLUS: return ops::Score::kSqrtSoftplus;
    default: return ops::Score::kSoftmax;
  }
}

ops::RouteWeights weights_of(const RouterConfig& config) {
  switch (config.weights()) {
    case RouterConfig::AS_IS: return ops::RouteWeights::kAsIs;
    case RouterConfig::SOFTMAX_OF_SCORES: return ops::RouteWeights::kSoftmaxOfScores;
    case RouterConfig::UNIFORM: return ops::RouteWeights::kUniform;
    default: return ops::RouteWeights::kRenormalized;
  }
}

// The expert bias [experts], which is in host memory, where ctx stands; empty if there is none.
TensorView bias_at(const Context& ctx, const TensorView& bias, Arena& arena) {
  const TensorView twin = twin_in(arena, bias, "router");
  if (twin.data != bias.data) ops::upload(ctx, bias, twin);
  return twin;
}

}  // namespace

Context context_at(const Context& model, Device device) {
  return device == model.device ? model.in_full() : Context{};
}

Router::Router(const RouterConfig& config, const RouterPlace& place)
    : score_(score_of(config)),
      weights_(weights_of(config)),
      scale_(config.routed_scaling_factor()),
      jitter_(config.input_jitter()),
      place_(place) {}

void Router::product(const Context& ctx, const TensorView& x, const TensorView& w,
                     const TensorView& bias, const TensorView& y, Arena& scratch) {
  ArenaScope scope(scratch);
  const TensorView twin = twin_in(scratch, y, "router");
  ops::gemm_nt(ctx, x, w, twin);
  if (!bias.empty()) ops::add_bias(ctx, twin, bias);
  bring(ctx, twin, y);
}

void Router::product_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                              const TensorView& w, const TensorView& dw, const TensorView& dbias,
                              const TensorView& dx, Arena& scratch) {
  ArenaScope scope(scratch);
  const TensorView twin = copy_in(ctx, scratch, dy, "router backward");
  ops::gemm_tn(ctx, twin, x, dw);
  if (!dbias.empty()) ops::bias_backward(ctx, twin, dbias);
  ops::gemm_nn(ctx, twin, w, dx, ops::Accumulate::kYes);
}

void Router::jitter(const Context& ctx, const Batch& batch, const TensorView& x,
                    const TensorView& y, ops::JitterInto into) const {
  const Random random(batch.seed, "router jitter", std::to_string(place_.layer),
                      static_cast<std::uint64_t>(batch.step));
  ops::jitter(ctx, random.address(), static_cast<std::uint64_t>(batch.first_token * x.cols()),
              jitter_, x, y, into);
}

void Router::choose(const Context& ctx, const RouterParams& params, const Batch& batch,
                    RankGroup& expert_ranks, Arena& choice, const RouterSaved& saved) const {
  ArenaScope scope(choice);
  const TensorView bias = bias_at(ctx, params.expert_bias, choice);
  const TensorView ranked = ranked_scores(ctx, saved.masked, saved.z, saved.s, choice);
  select(ctx, {batch, saved.z, saved.s, ranked, bias, saved.group_z, expert_ranks, choice},
         saved.indices);
}

void Router::choose_at_once(const Context& ctx, const RouterParams& params, Arena& choice,
                            const RouterSaved& saved) const {
  ArenaScope scope(choice);
  const TensorView bias = bias_at(ctx, params.expert_bias, choice);
  ops::route_topk(ctx, {score_, weights_, scale_}, saved.z, bias, saved.s, saved.lse, saved.indices,
                  saved.weights);
}

void Router::forward(const Context& ctx, const RouterParams& params, const Capacity& capacity,
                     const TensorView& x, const RouterArenas& arenas, bool keep_choice,
                     RoutingHook* hook, RankGroup& expert_ranks, const Batch& batch,
                     RouterSaved& saved) const {
  const std::int64_t tokens = x.rows();
  const std::int64_t experts = params.weight.rows();
  const Context place = context_at(ctx, arenas.decision.device());
  saved.x = x;
  if (jitter_ > 0.0 && batch.training) {
    saved.x = arenas.saved.allocate(x.shape, x.dtype, "router");
    jitter(ctx, batch, x, saved.x, ops::JitterInto::kOverwrite);
  }
  saved.z = arenas.decision.allocate({tokens, experts}, x.dtype, "router");
  saved.s = arenas.decision.allocate({tokens, experts}, x.dtype, "router");
  saved.lse = arenas.decision.allocate({tokens}, x.dtype, "router");
  saved.weights = arenas.decision.allocate({tokens, top_k()}, x.dtype, "router");
  product(ctx.in_full(), saved.x, params.weight, params.bias, saved.z, arenas.scratch);
  finish_logits(ctx.in_full(), params, batch, arenas, saved);
  saved.masked = !place_.mask.empty();
  if (saved.masked) place_.mask.apply(place, batch, saved.z);
  if (!keep_choice) {
    saved.indices = arenas.choice.allocate({tokens, top_k()}, DType::kInt32, "router");
  }
  if (is_top_k() && !keep_choice && hook == nullptr && !saved.masked) {
    choose_at_once(place, params, arenas.choice, saved);
  } else {
    ops::router_score(place, score_, saved.z, saved.s, saved.lse);
    if (!keep_choice) {
      choose(place, params, batch, expert_ranks, arenas.choice, saved);
      if (hook != nullptr) hook->on_route(place_.layer, batch, saved.indices, experts);
    }
    set_weights(place, saved, saved.indices);
  }
  if (!capacity.limits(batch.training)) {
    saved.kept = saved.indices;
    return;
  }
  if (!keep_choice) {
    saved.kept = arenas.choice.allocate({tokens, top_k()}, DType::kInt32, "router");
    capacity.drop(place, saved.indices, saved.weights, saved.s, batch.training, saved.kept);
  }
  if (capacity.renormalizes()) set_weights(place, saved, saved.kept);
}

void Router::set_weights(const Context& ctx, const RouterSaved& saved,
                         const TensorView& indices) const {
  if (weighs_itself()) return weigh(ctx, saved, indices, saved.weights);
  ops::route_weights(ctx, weights_, scale_, saved.s, indices, saved.weights);
}

void Router::backward(const Context& ctx, const RouterParams& params, const Capacity& capacity,
                      const Batch& batch, const RouterSaved& saved, const TensorView& dweights,
                      const RouterGradient& losses, const TensorView& dx, Arena& scratch,
                      Arena& decision_scratch) const {
  ArenaScope scope(scratch);
  ArenaScope decision_scope(decision_scratch);
  const Context full = ctx.in_full();
  const Context place = context_at(ctx, saved.z.device);
  const TensorView dz = decision_scratch.allocate(saved.z.shape, saved.z.dtype, "router backward");
  if (!losses.dweights.empty()) ops::add(place, dweights, losses.dweights, dweights);
  // A dropped pair has no gradient of its own, but its score may stand in the others' weights.
  const TensorView& weighed = capacity.renormalizes() ? saved.kept : saved.indices;
  const ops::RouteWeights kind = weighs_itself() ? ops::RouteWeights::kUniform : weights_;
  ops::router_backward(place, score_, kind, scale_, saved.z, saved.s, saved.lse, weighed,
                       saved.weights, dweights, losses.ds, losses.z_loss_scale, dz);
  if (weighs_itself()) weigh_backward(place, saved, weighed, dweights, dz);
  if (!losses.dz.empty()) ops::add(place, dz, losses.dz, dz);

  TensorView dread = dx;  // of what the router read
  const bool jittered = jitter_ > 0.0 && batch.training;
  if (jittered) {
    dread = scratch.allocate(dx.shape, dx.dtype, "router backward");
    ops::fill(ctx, dread, 0.0);
  }
  logits_backward(full, params, batch, saved, dz, losses.dnoise_scale, dread, scratch,
                  decision_scratch);
  if (!losses.dclean_z.empty()) ops::add(place, dz, losses.dclean_z, dz);
  product_backward(full, dz, saved.x, params.weight, params.dweight, params.dbias, dread, scratch);
  if (jittered) jitter(ctx, batch, dread, dx, ops::JitterInto::kAdd);
}

}  // namespace witan
