#include "core/model/router.h"

#include "core/base/rng.h"
#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
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

TensorView Router::with_jitter(const Context& ctx, const Batch& batch, const TensorView& x,
                               const RouterArenas& arenas) const {
  const TensorView y = arenas.saved.allocate(x.shape, x.dtype, "router");
  ArenaScope scope(arenas.choice);
  const TensorView out = twin_in(arenas.choice, y, "router");
  Jitter(batch, place_, jitter_).multiply(copy_in(ctx, arenas.choice, x, "router"), out, false);
  bring(ctx, out, y);
  return y;
}

void Router::forward(const Context& ctx, const RouterParams& params, const Capacity& capacity,
                     const TensorView& x, const RouterArenas& arenas, bool keep_choice,
                     RoutingHook* hook, RankGroup& expert_ranks, const Batch& batch,
                     RouterSaved& saved) const {
  const std::int64_t tokens = x.rows();
  const std::int64_t experts = params.weight.rows();
  const Context host{};
  saved.x = jitter_ > 0.0 && batch.training ? with_jitter(ctx, batch, x, arenas) : x;
  saved.z = arenas.host_saved.allocate({tokens, experts}, x.dtype, "router");
  saved.s = arenas.host_saved.allocate({tokens, experts}, x.dtype, "router");
  saved.lse = arenas.host_saved.allocate({tokens}, x.dtype, "router");
  saved.weights = arenas.host_saved.allocate({tokens, top_k()}, x.dtype, "router");
  product(ctx.in_full(), saved.x, params.weight, params.bias, saved.z, arenas.scratch);
  finish_logits(ctx.in_full(), params, batch, arenas, saved);
  saved.masked = !place_.mask.empty();
  if (saved.masked) place_.mask.apply(batch.tags, saved.z);
  ops::router_score(host, score_, saved.z, saved.s, saved.lse);
  if (!keep_choice) {
    saved.indices = arenas.choice.allocate({tokens, top_k()}, DType::kInt32, "router");
    ArenaScope scope(arenas.choice);
    const TensorView ranked = ranked_scores(host, saved.masked, saved.z, saved.s, arenas.choice);
    select(host, {batch, saved.z, saved.s, ranked, params.expert_bias, saved.group_z, expert_ranks},
           saved.indices);
    if (hook != nullptr) hook->on_route(place_.layer, batch, saved.indices, experts);
  }
  set_weights(saved, saved.indices);
  if (!capacity.limits(batch.training)) {
    saved.kept = saved.indices;
    return;
  }
  if (!keep_choice) {
    saved.kept = arenas.choice.allocate({tokens, top_k()}, DType::kInt32, "router");
    capacity.drop(saved.indices, saved.weights, saved.s, batch.training, saved.kept);
  }
  if (capacity.renormalizes()) set_weights(saved, saved.kept);
}

void Router::set_weights(const RouterSaved& saved, const TensorView& indices) const {
  if (weighs_itself()) return weigh(saved, indices, saved.weights);
  ops::route_weights({}, weights_, scale_, saved.s, indices, saved.weights);
}

void Router::backward(const Context& ctx, const RouterParams& params, const Capacity& capacity,
                      const Batch& batch, const RouterSaved& saved, const TensorView& dweights,
                      const RouterGradient& losses, const TensorView& dx, Arena& scratch,
                      Arena& host_scratch) const {
  ArenaScope scope(scratch);
  ArenaScope host_scope(host_scratch);
  const Context full = ctx.in_full();
  const Context host{};
  const TensorView dz = host_scratch.allocate(saved.z.shape, saved.z.dtype, "router backward");
  if (!losses.dweights.empty()) ops::add(host, dweights, losses.dweights, dweights);
  // A dropped pair has no gradient of its own, but its score may stand in the others' weights.
  const TensorView& weighed = capacity.renormalizes() ? saved.kept : saved.indices;
  const ops::RouteWeights kind = weighs_itself() ? ops::RouteWeights::kUniform : weights_;
  ops::router_backward(host, score_, kind, scale_, saved.z, saved.s, saved.lse, weighed,
                       saved.weights, dweights, losses.ds, losses.z_loss_scale, dz);
  if (weighs_itself()) weigh_backward(saved, weighed, dweights, dz);
  if (!losses.dz.empty()) ops::add(host, dz, losses.dz, dz);

  TensorView dread = dx;  // of what the router read
  const bool jitter = jitter_ > 0.0 && batch.training;
  if (jitter) {
    dread = scratch.allocate(dx.shape, dx.dtype, "router backward");
    ops::fill(ctx, dread, 0.0);
  }
  logits_backward(full, params, batch, saved, dz, losses.dnoise_scale, dread, scratch,
                  host_scratch);
  if (!losses.dclean_z.empty()) ops::add(host, dz, losses.dclean_z, dz);
  product_backward(full, dz, saved.x, params.weight, params.dweight, params.dbias, dread, scratch);
  if (!jitter) return;
  const TensorView out = copy_in(ctx, host_scratch, dx, "router backward");
  Jitter(batch, place_, jitter_)
      .multiply(copy_in(ctx, host_scratch, dread, "router backward"), out, true);
  bring(ctx, out, dx);
}

}  // namespace witan
