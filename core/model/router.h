// Routing: which experts a token goes to and with which weight. Definitions: docs/numerics.md,
// section "Router".
//
//   z = x W^T (+ bias); s = score(z); indices = select(s + expert bias); weights =
//   weights(s[indices])
//
// The logits, scores and weights are common to all routers; a Router decides the selection. To add
// one: a message in configs/schema/model.proto, a file in routers/, a line in router_registry.cc.
#pragma once

#include <memory>
#include <span>

#include "configs/schema/model.pb.h"
#include "core/base/context.h"
#include "core/model/batch.h"
#include "core/ops/topk.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// What the forward keeps for the backward; float32 or float64 like the activations.
struct RouterSaved {
  TensorView z;    // [tokens, experts] logits
  TensorView s;    // [tokens, experts] scores
  TensorView lse;  // [tokens] logsumexp(z)
  TensorView
      indices;  // [tokens, top_k] int32: the choice; a recompute re-uses it and never selects again
  TensorView weights;  // [tokens, top_k]
};

// Parameters and gradients of one layer's router; bias views are empty where the config has none.
struct RouterParams {
  TensorView weight, bias, expert_bias;  // [experts, d], [experts], [experts]
  TensorView dweight, dbias;             // accumulate
};

// Takes the place of the router's own choice, or watches it (recording, replay, forced balance).
class RoutingHook {
 public:
  virtual ~RoutingHook() = default;
  // May overwrite indices [tokens, top_k] (host memory) for MoE layer `layer` (counted among all
  // layers).
  virtual void on_route(int layer, const Batch& batch, const TensorView& indices,
                        std::int64_t experts) = 0;
};

class Router {
 public:
  explicit Router(const configs::RouterConfig& config);
  virtual ~Router() = default;

  // x [tokens, d]. `saved` is allocated in `arena`, its indices in `choice_arena`. With
  // `keep_choice`, saved.indices is an input: the choice of an earlier forward.
  void forward(const Context& ctx, const RouterParams& params, const TensorView& x, Arena& arena,
               Arena& choice_arena, bool keep_choice, RoutingHook* hook, int layer,
               const Batch& batch, RouterSaved& saved) const;

  // dweights [tokens, top_k] from the experts; ds [tokens, experts] from the balancing losses (may
  // be empty); z_loss_scale: see ops::router_backward. dx [tokens, d] is accumulated.
  void backward(const Context& ctx, const RouterParams& params, const TensorView& x,
                const RouterSaved& saved, const TensorView& dweights, const TensorView& ds,
                double z_loss_scale, const TensorView& dx, Arena& scratch) const;

  virtual std::int64_t top_k() const = 0;
  ops::Score score() const { return score_; }

 protected:
  // Fills indices [tokens, top_k], without repeating an expert within a token, from s [tokens,
  // experts] and expert_bias [experts] (may be empty).
  virtual void select(const Context& ctx, const TensorView& s, const TensorView& expert_bias,
                      const TensorView& indices) const = 0;

 private:
  ops::Score score_;
  ops::RouteWeights weights_;
  double scale_;
};

// The registry, in router_registry.cc.
struct RouterEntry {
  configs::RouterConfig::SelectionCase selection;
  const char* name;
  // A RouterConfig in text format, for tests that go through every registered router; chosen for 6
  // or more experts.
  const char* example;
  std::unique_ptr<Router> (*make)(const configs::RouterConfig&);
};
std::span<const RouterEntry> registered_routers();
std::unique_ptr<Router> make_router(const configs::RouterConfig& config);

// Defined one per file in routers/.
std::unique_ptr<Router> make_top_k_router(const configs::RouterConfig& config);

}  // namespace witan
