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
#include <string>

#include "configs/schema/model.pb.h"
#include "core/base/context.h"
#include "core/model/batch.h"
#include "core/model/capacity.h"
#include "core/model/expert_mask.h"
#include "core/model/rank_group.h"
#include "core/ops/jitter.h"
#include "core/ops/topk.h"
#include "core/tensor/arena.h"
#include "core/tensor/host_copy.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// What the forward keeps for the backward; float32 or float64 like the activations. x is on the
// model's device; all others lie where the layer decides (MoeLayer::decides_on_device): there too,
// or in host memory.
struct RouterSaved {
  TensorView x;  // [tokens, d] what the router read: its input, or that with jitter
  // [tokens, experts] logits, with noise if there is any; minus infinity for experts that the token
  // may not use
  TensorView z;
  TensorView s;    // [tokens, experts] scores
  TensorView lse;  // [tokens] logsumexp(z)
  // [tokens, top_k] int32: the choice, ops::kNoChoice where a token has fewer; a recompute re-uses
  // it and never selects again
  TensorView indices;
  // [tokens, top_k] int32: what capacity leaves of it, kNoChoice where a pair was dropped; indices
  // itself without a limit
  TensorView kept;
  TensorView weights;  // [tokens, top_k]; those of dropped pairs are not used
  // Noisy routers: z = clean_z + a standard normal times noise_scale, all [tokens, experts]; the
  // normals are kept where the scale is learned. Empty without noise.
  TensorView clean_z, noise_scale, noise;
  TensorView group_z;   // [tokens, groups] logits of a first gate, if the selection has one
  bool masked = false;  // some logits may be minus infinity
  // Of a choice on the device: the copies of `indices` and `kept` on their way to the host, one and
  // the same if they are. Null otherwise.
  HostCopy* indices_copy = nullptr;
  HostCopy* kept_copy = nullptr;

  bool on_device() const { return z.device.is_cuda(); }
  bool drops() const { return kept.data != indices.data; }  // there is a capacity
  // In host memory; waits for the copy where they are on the device.
  const TensorView& indices_on_host() const {
    return indices_copy == nullptr ? indices : indices_copy->wait();
  }
  const TensorView& kept_on_host() const { return kept_copy == nullptr ? kept : kept_copy->wait(); }
};

// What reaches a router's backward besides the experts' gradient: from the balancing losses, where
// RouterSaved lies. Empty where no loss has one.
struct RouterGradient {
  TensorView ds;                      // [tokens, experts] of the scores
  TensorView dweights;                // [tokens, top_k] of the weights
  TensorView dz;                      // [tokens, experts] of the logits, noise included,
  TensorView dclean_z, dnoise_scale;  // and of what they are made of
  double z_loss_scale = 0.0;          // see ops::router_backward
};

// Parameters and gradients of one layer's router; views are empty where the config has none.
struct RouterParams {
  // [experts, d], [experts], [experts] in host memory, [experts, d]
  TensorView weight, bias, expert_bias, noise;
  TensorView group_weight;                           // [groups, d]
  TensorView dweight, dbias, dnoise, dgroup_weight;  // accumulate
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

// Where a router's tensors lie (ModelArenas): on the model's device saved and scratch; what is
// decided (RouterSaved) and the choice on that device or in host memory, both in the same place.
struct RouterArenas {
  Arena& saved;
  Arena& decision;
  Arena& choice;
  Arena& scratch;
};

// Where tensors of `device` are worked on: the model's device, in full precision, or the host
// beside it.
Context context_at(const Context& model, Device device);

// What a selection may look at, all where RouterSaved lies.
struct SelectionInput {
  const Batch& batch;
  TensorView z, s;          // [tokens, experts]
  TensorView ranked;        // [tokens, experts] s, but minus infinity where the token may not go
  TensorView expert_bias;   // [experts], may be empty
  TensorView group_z;       // [tokens, groups], of a first gate
  RankGroup& expert_ranks;  // whose experts the tokens go to; they all select at the same time
  Arena& scratch;           // memory where these lie, given back after the selection
};

// Whose router it is: random draws and tables differ from layer to layer.
struct RouterPlace {
  int layer = 0;
  std::int64_t experts = 0;  // what it chooses among, zero-computation experts included
  std::int64_t vocab = 0;
  ExpertMask mask = {};  // which experts a token may use
};

class Router {
 public:
  Router(const configs::RouterConfig& config, const RouterPlace& place);
  virtual ~Router() = default;

  // x [tokens, d] on ctx.device: products with x are made there, everything else where
  // arenas.decision lies; if that is host memory beside a device, the host waits for the logits.
  // `saved` is allocated in arenas.saved and decision, its indices in arenas.choice. With
  // `keep_choice`, saved.indices and saved.kept are inputs: the choice of an earlier forward.
  void forward(const Context& ctx, const RouterParams& params, const Capacity& capacity,
               const TensorView& x, const RouterArenas& arenas, bool keep_choice, RoutingHook* hook,
               RankGroup& expert_ranks, const Batch& batch, RouterSaved& saved) const;

  // dweights [tokens, top_k] (where `saved` lies) from the experts, to which those of `losses` are
  // added; dx [tokens, d] is accumulated. `decision_scratch`: memory where `saved` lies.
  void backward(const Context& ctx, const RouterParams& params, const Capacity& capacity,
                const Batch& batch, const RouterSaved& saved, const TensorView& dweights,
                const RouterGradient& losses, const TensorView& dx, Arena& scratch,
                Arena& decision_scratch) const;

  // Whether everything from the logits to the weights can be computed on a device without the host
  // looking at a value.
  virtual bool decides_on_device() const { return false; }
  // select() is ops::topk of the scores and the expert bias.
  virtual bool is_top_k() const { return false; }
  // Columns of the choice: the most experts a token can have.
  virtual std::int64_t top_k() const = 0;
  ops::Score score() const { return score_; }

 protected:
  // Fills indices [tokens, top_k] with experts the token may use, without repeating one within a
  // token; kNoChoice behind the last choice of a token that has fewer.
  // ctx stands where the tensors lie: on the host but for routers that decide on the device.
  virtual void select(const Context& ctx, const SelectionInput& in,
                      const TensorView& indices) const = 0;
  // What else the logits are made of, before the mask: changes saved.z, which is x W^T (+ bias).
  // Its backward changes dz [tokens, experts] from the gradient of saved.z into that of x W^T;
  // dnoise_scale (may be empty) is another input; dx accumulates. ctx is the model's in full
  // precision, for product() and product_backward(); dz and dnoise_scale lie where `saved` does, as
  // does memory of arenas.decision and decision_scratch.
  virtual void finish_logits(const Context& ctx, const RouterParams& params, const Batch& batch,
                             const RouterArenas& arenas, RouterSaved& saved) const {
    (void)ctx, (void)params, (void)batch, (void)arenas, (void)saved;
  }
  virtual void logits_backward(const Context& ctx, const RouterParams& params, const Batch& batch,
                               const RouterSaved& saved, const TensorView& dz,
                               const TensorView& dnoise_scale, const TensorView& dx, Arena& scratch,
                               Arena& decision_scratch) const {
    (void)ctx, (void)params, (void)batch, (void)saved, (void)dz, (void)dnoise_scale, (void)dx,
        (void)scratch, (void)decision_scratch;
  }
  // y [tokens, n] (anywhere) = x w^T (+ bias): x [tokens, d], w [n, d] and bias [n] (may be empty)
  // on ctx.device.
  static void product(const Context& ctx, const TensorView& x, const TensorView& w,
                      const TensorView& bias, const TensorView& y, Arena& scratch);
  // From dy [tokens, n] (anywhere): dw += dy^T x, dbias (may be empty) += the column sums of dy, dx
  // += dy w.
  static void product_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                               const TensorView& w, const TensorView& dw, const TensorView& dbias,
                               const TensorView& dx, Arena& scratch);
  // Weights other than those of RouterConfig.weights: true says that weigh() made them, from saved
  // and indices [tokens, top_k] into weights [tokens, top_k], 0 for kNoChoice. Its backward adds to
  // dz [tokens, experts], the gradient of saved.z. ctx stands where `saved` lies.
  virtual bool weighs_itself() const { return false; }
  virtual void weigh(const Context& ctx, const RouterSaved& saved, const TensorView& indices,
                     const TensorView& weights) const {
    (void)ctx, (void)saved, (void)indices, (void)weights;
  }
  virtual void weigh_backward(const Context& ctx, const RouterSaved& saved,
                              const TensorView& indices, const TensorView& dweights,
                              const TensorView& dz) const {
    (void)ctx, (void)saved, (void)indices, (void)dweights, (void)dz;
  }

  double scale() const { return scale_; }
  const RouterPlace& place() const { return place_; }

 private:
  void set_weights(const Context& ctx, const RouterSaved& saved, const TensorView& indices) const;
  void choose(const Context& ctx, const RouterParams& params, const Batch& batch,
              RankGroup& expert_ranks, Arena& choice, const RouterSaved& saved) const;
  // Scores, choice and weights of a top_k router.
  void choose_at_once(const Context& ctx, const RouterParams& params, Arena& choice,
                      const RouterSaved& saved) const;
  // y (+)= x jittered, [tokens, d].
  void jitter(const Context& ctx, const Batch& batch, const TensorView& x, const TensorView& y,
              ops::JitterInto into) const;

  ops::Score score_;
  ops::RouteWeights weights_;
  double scale_;
  double jitter_;
  RouterPlace place_;
};

// The registry, in router_registry.cc.
struct RouterEntry {
  configs::RouterConfig::SelectionCase selection;
  const char* name;
  // A RouterConfig in text format, for tests that go through every registered router; chosen for 6
  // or more experts.
  const char* example;
  std::unique_ptr<Router> (*make)(const configs::RouterConfig&, const RouterPlace&);
};
std::span<const RouterEntry> registered_routers();
std::unique_ptr<Router> make_router(const configs::RouterConfig& config, const RouterPlace& place);

// Defined one per file in routers/.
std::unique_ptr<Router> make_top_k_router(const configs::RouterConfig& config,
                                          const RouterPlace& place);
std::unique_ptr<Router> make_group_limited_router(const configs::RouterConfig& config,
                                                  const RouterPlace& place);
std::unique_ptr<Router> make_top_p_router(const configs::RouterConfig& config,
                                          const RouterPlace& place);
std::unique_ptr<Router> make_expert_choice_router(const configs::RouterConfig& config,
                                                  const RouterPlace& place);
std::unique_ptr<Router> make_noisy_top_k_router(const configs::RouterConfig& config,
                                                const RouterPlace& place);
std::unique_ptr<Router> make_hash_router(const configs::RouterConfig& config,
                                         const RouterPlace& place);
std::unique_ptr<Router> make_all_router(const configs::RouterConfig& config,
                                        const RouterPlace& place);
std::unique_ptr<Router> make_sinkhorn_router(const configs::RouterConfig& config,
                                             const RouterPlace& place);
std::unique_ptr<Router> make_hierarchical_router(const configs::RouterConfig& config,
                                                 const RouterPlace& place);

}  // namespace witan
