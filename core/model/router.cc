#include "core/model/router.h"

#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"

namespace witan {

Router::Router(const configs::RouterConfig& config)
    : score_(config.score() == configs::RouterConfig::SOFTMAX ? ops::Score::kSoftmax
                                                              : ops::Score::kSigmoid),
      weights_(config.weights() == configs::RouterConfig::RENORMALIZED
                   ? ops::RouteWeights::kRenormalized
                   : ops::RouteWeights::kAsIs),
      scale_(config.routed_scaling_factor()) {}

void Router::forward(const Context& ctx, const RouterParams& params, const TensorView& x,
                     Arena& arena, Arena& choice_arena, bool keep_choice, RoutingHook* hook,
                     int layer, const Batch& batch, RouterSaved& saved) const {
  const std::int64_t tokens = x.rows();
  const std::int64_t experts = params.weight.rows();
  saved.z = arena.allocate({tokens, experts}, x.dtype, "router");
  saved.s = arena.allocate({tokens, experts}, x.dtype, "router");
  saved.lse = arena.allocate({tokens}, x.dtype, "router");
  saved.weights = arena.allocate({tokens, top_k()}, x.dtype, "router");
  ops::gemm_nt(ctx.in_full(), x, params.weight, saved.z);
  if (!params.bias.empty()) ops::add_bias(ctx, saved.z, params.bias);
  ops::router_score(ctx, score_, saved.z, saved.s, saved.lse);
  if (!keep_choice) {
    saved.indices = choice_arena.allocate({tokens, top_k()}, DType::kInt32, "router");
    select(ctx, saved.s, params.expert_bias, saved.indices);
    if (hook != nullptr) hook->on_route(layer, batch, saved.indices, experts);
  }
  ops::route_weights(ctx, weights_, scale_, saved.s, saved.indices, saved.weights);
}

void Router::backward(const Context& ctx, const RouterParams& params, const TensorView& x,
                      const RouterSaved& saved, const TensorView& dweights, const TensorView& ds,
                      double z_loss_scale, const TensorView& dx, Arena& scratch) const {
  ArenaScope scope(scratch);
  const TensorView dz = scratch.allocate(saved.z.shape, saved.z.dtype, "router backward");
  ops::router_backward(ctx, score_, weights_, scale_, saved.z, saved.s, saved.lse, saved.indices,
                       saved.weights, dweights, ds, z_loss_scale, dz);
  ops::gemm_tn(ctx.in_full(), dz, x, params.dweight);
  if (!params.bias.empty()) ops::bias_backward(ctx, dz, params.dbias);
  ops::gemm_nn(ctx.in_full(), dz, params.weight, dx, ops::Accumulate::kYes);
}

}  // namespace witan
