#include "core/model/router.h"

#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"

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

// The factors of the input jitter, a pure function of seed, step, layer and global element.
class Jitter {
 public:
  Jitter(const Batch& batch, const RouterPlace& place, double size)
      : random_(batch.seed, "router jitter", std::to_string(place.layer),
                static_cast<std::uint64_t>(batch.step)),
        first_token_(batch.first_token),
        size_(size) {}

  // y (+)= x * factors, [tokens, d].
  void multiply(const TensorView& x, const TensorView& y, bool accumulate) const {
    dispatch_float(x.dtype, "router jitter", [&](auto zero) {
      using T = decltype(zero);
      const T* from = x.as<T>();
      T* to = y.as<T>();
      const auto first = static_cast<std::uint64_t>(first_token_ * x.cols());
#pragma omp parallel for schedule(static)
      for (std::int64_t i = 0; i < x.size(); ++i) {
        const double u = random_.uniform(first + static_cast<std::uint64_t>(i));
        const T value = from[i] * static_cast<T>(1.0 + size_ * (2.0 * u - 1.0));
        to[i] = accumulate ? to[i] + value : value;
      }
    });
  }

 private:
  Random random_;
  std::int64_t first_token_;
  double size_;
};

}  // namespace

Router::Router(const RouterConfig& config, const RouterPlace& place)
    : score_(score_of(config)),
      weights_(weights_of(config)),
      scale_(config.routed_scaling_factor()),
      jitter_(config.input_jitter()),
      place_(place) {}

void Router::forward(const Context& ctx, const RouterParams& params, const Capacity& capacity,
                     const TensorView& x, Arena& arena, Arena& choice_arena, bool keep_choice,
                     RoutingHook* hook, RankGroup& expert_ranks, const Batch& batch,
                     RouterSaved& saved) const {
  const std::int64_t tokens = x.rows();
  const std::int64_t experts = params.weight.rows();
  saved.x = x;
  if (jitter_ > 0.0 && batch.training) {
    saved.x = arena.allocate(x.shape, x.dtype, "router");
    Jitter(batch, place_, jitter_).multiply(x, saved.x, false);
  }
  saved.z = arena.allocate({tokens, experts}, x.dtype, "router");
  saved.s = arena.allocate({tokens, experts}, x.dtype, "router");
  saved.lse = arena.allocate({tokens}, x.dtype, "router");
  saved.weights = arena.allocate({tokens, top_k()}, x.dtype, "router");
  ops::gemm_nt(ctx.in_full(), saved.x, params.weight, saved.z);
  if (!params.bias.empty()) ops::add_bias(ctx, saved.z, params.bias);
  finish_logits(ctx.in_full(), params, batch, arena, saved);
  saved.masked = !place_.mask.empty();
  if (saved.masked) place_.mask.apply(batch.tags, saved.z);
  ops::router_score(ctx, score_, saved.z, saved.s, saved.lse);
  if (!keep_choice) {
    saved.indices = choice_arena.allocate({tokens, top_k()}, DType::kInt32, "router");
    ArenaScope scope(choice_arena);
    const TensorView ranked = ranked_scores(ctx, saved.masked, saved.z, saved.s, choice_arena);
    select(ctx, {batch, saved.z, saved.s, ranked, params.expert_bias, saved.group_z, expert_ranks},
           saved.indices);
    if (hook != nullptr) hook->on_route(place_.layer, batch, saved.indices, experts);
  }
  set_weights(ctx, saved, saved.indices);
  if (!capacity.limits(batch.training)) {
    saved.kept = saved.indices;
    return;
  }
  if (!keep_choice) {
    saved.kept = choice_arena.allocate({tokens, top_k()}, DType::kInt32, "router");
    capacity.drop(saved.indices, saved.weights, saved.s, batch.training, saved.kept);
  }
  if (capacity.renormalizes()) set_weights(ctx, saved, saved.kept);
}

void Router::set_weights(const Context& ctx, const RouterSaved& saved,
                         const TensorView& indices) const {
  if (weighs_itself()) return weigh(saved, indices, saved.weights);
  ops::route_weights(ctx, weights_, scale_, saved.s, indices, saved.weights);
}

void Router::backward(const Context& ctx, const RouterParams& params, const Capacity& capacity,
                      const Batch& batch, const RouterSaved& saved, const TensorView& dweights,
                      const RouterGradient& losses, const TensorView& dx, Arena& scratch) const {
  ArenaScope scope(scratch);
  const Context full = ctx.in_full();
  const TensorView dz = scratch.allocate(saved.z.shape, saved.z.dtype, "router backward");
  if (!losses.dweights.empty()) ops::add(ctx, dweights, losses.dweights, dweights);
  // A dropped pair has no gradient of its own, but its score may stand in the others' weights.
  const TensorView& weighed = capacity.renormalizes() ? saved.kept : saved.indices;
  const ops::RouteWeights kind = weighs_itself() ? ops::RouteWeights::kUniform : weights_;
  ops::router_backward(ctx, score_, kind, scale_, saved.z, saved.s, saved.lse, weighed,
                       saved.weights, dweights, losses.ds, losses.z_loss_scale, dz);
  if (weighs_itself()) weigh_backward(saved, weighed, dweights, dz);
  if (!losses.dz.empty()) ops::add(ctx, dz, losses.dz, dz);

  TensorView dread = dx;  // of what the router read
  const bool jitter = jitter_ > 0.0 && batch.training;
  if (jitter) {
    dread = scratch.allocate(dx.shape, dx.dtype, "router backward");
    ops::fill(ctx, dread, 0.0);
  }
  logits_backward(full, params, batch, saved, dz, losses.dnoise_scale, dread, scratch);
  if (!losses.dclean_z.empty()) ops::add(ctx, dz, losses.dclean_z, dz);
  ops::gemm_tn(full, dz, saved.x, params.dweight);
  if (!params.bias.empty()) ops::bias_backward(ctx, dz, params.dbias);
  ops::gemm_nn(full, dz, params.weight, dread, ops::Accumulate::kYes);
  if (jitter) Jitter(batch, place_, jitter_).multiply(dread, dx, true);
}

}  // namespace witan
