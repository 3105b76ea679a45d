// The Mixture-of-Experts layer: route, dispatch, experts, combine; its backward is the same chain
// reversed.
//   y_t = sum over chosen i of w_ti f_i(x_t) + shared(x_t)
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/base/graph_segment.h"
#include "core/model/balance/balancer.h"
#include "core/model/batch.h"
#include "core/model/expert_bank.h"
#include "core/model/model_context.h"
#include "core/model/moe_figures.h"
#include "core/model/param_store.h"
#include "core/model/router.h"
#include "core/model/shared_expert.h"
#include "core/model/zero_computation.h"

namespace witan {

class MoeLayer {
 public:
  // `tags`: number of different token tags that are counted apart (at least 1).
  MoeLayer(const configs::ModelConfig& model, const ParamStore& params, int layer,
           std::int64_t tags);

  // The part of a micro-batch that travels together: tokens [begin, begin + plan.tokens).
  struct Chunk {
    std::int64_t begin = 0;
    ExchangePlan plan;
    bool padded = false;      // every expert has as many slots, whatever the router chose
    TensorView slot_weights;  // [slots]
    DispatchedRows rows;      // [rows, d] as received
    ExpertBank::Saved experts;
    TensorView dslot_weights;  // [slots], in the backward only

    // Its rows of a tensor of the micro-batch.
    TensorView of(const TensorView& x) const { return x.slice_rows(begin, plan.tokens); }
  };
  struct Saved {
    RouterSaved router;
    TensorView travel;  // [tokens, top_k] int32, where router.kept lies: of experts that compute
    std::vector<Chunk> chunks;
    // Where each round of a micro-batch begins that has more rows than ModelContext::max_rows, and
    // its end (core/model/rounds.h). Rounds keep nothing: the backward dispatches again.
    std::vector<std::int64_t> rounds;
    SharedExpert::Saved shared;
    // The indices and the plans are those of an earlier forward of this micro-batch.
    bool has_choice = false;

    bool in_rounds() const { return rounds.size() > 2; }
  };

  // x, y [tokens, d]; y must not alias x. With saved.has_choice the routing is re-used. Collective
  // over the expert-parallel group.
  void forward(const ModelContext& model, const Batch& batch, const TensorView& x,
               const TensorView& y, Saved& saved);
  // dx overwritten; parameter gradients accumulate, those of the balancing losses included.
  // gradient_scale: BalanceInput.
  void backward(const ModelContext& model, const Batch& batch, const TensorView& dy,
                const TensorView& x, Saved& saved, const TensorView& dx, double gradient_scale);

  int layer() const { return layer_; }
  // What the router chooses among: the experts that compute, then zero-computation experts.
  std::int64_t experts() const { return experts_; }
  std::int64_t computing_experts() const { return experts_ - zero_computation_.size(); }
  // What is measured (MoeFigures); asking waits for what a device has yet to tell.
  MoeStats& stats() { return figures_.stats(); }
  const MoeStats& stats() const { return figures_.stats(); }
  void begin_reading_stats() { figures_.begin_reading(); }
  std::span<const std::int64_t> counts() const { return figures_.counts(); }
  std::span<const std::unique_ptr<Balancer>> balancers() const { return balancers_; }
  // [experts] choices in the last micro-batch.
  std::span<const std::int64_t> batch_counts() const { return figures_.batch_counts(); }
  // A balancer wants the global fractions of all MoE layers together.
  bool pools_layers() const;
  const TensorView& expert_bias() const { return router_params_.expert_bias; }
  const ExpertMask& mask() const { return mask_; }
  // Of the experts' graphs (ModelContext::cuda_graphs); null before the first call with padding.
  const GraphSegment* forward_graph() const { return forward_graph_.get(); }
  const GraphSegment* backward_graph() const { return backward_graph_.get(); }
  // f_i [experts] for losses of GLOBAL_BATCH scope; set before the backward.
  std::vector<double>& global_fractions() { return global_fractions_; }

 private:
  // Where the router's scores, choice and weights are computed: on the model's device, unless the
  // host has to look at them. It does for routers that are not Router::decides_on_device(), as one
  // that was added may be, and for hooks.
  bool decides_on_device(const ModelContext& model) const;
  void route(const ModelContext& model, const Batch& batch, const TensorView& x, Saved& saved);
  TensorView travelling(const Context& ctx, Arena& arena, const TensorView& indices) const;
  void begin_plan(const ModelContext& model, const Batch& batch, Saved& saved) const;
  // Its end, if it `is_new`; then the weights of this forward go to the slots.
  void end_plan(const ModelContext& model, Saved& saved, bool is_new) const;
  // In core/model/moe_rounds.cc: the same as what forward() and backward() do with chunks.
  Chunk& begin_round(const ModelContext& model, const TensorView& x, Saved& saved,
                     std::size_t round) const;
  void forward_rounds(const ModelContext& model, const TensorView& x, const TensorView& y,
                      Saved& saved) const;
  void backward_rounds(const ModelContext& model, const TensorView& dy, const TensorView& x,
                       Saved& saved, const TensorView& dx, const TensorView& dweights) const;
  TensorView forward_shared(const ModelContext& model, const TensorView& x, Saved& saved) const;
  TensorView backward_shared(const ModelContext& model, const TensorView& dy, const TensorView& x,
                             const Saved& saved) const;
  void forward_zero_computation(const ModelContext& model, const TensorView& x, const TensorView& y,
                                const Saved& saved);
  void backward_zero_computation(const ModelContext& model, const TensorView& dy,
                                 const TensorView& x, const Saved& saved, const TensorView& dx,
                                 const TensorView& dweights);
  // In core/model/moe_experts.cc.
  void allocate_up(Arena& arena, Chunk& chunk) const;
  void allocate_h(const ModelContext& model, Arena& arena, Chunk& chunk) const;
  void forward_up(const ModelContext& model, const Chunk& chunk) const;
  void activate(const ModelContext& model, const Chunk& chunk) const;
  // out [rows, d]: what this rank's experts add up to for each row of the chunk.
  void forward_experts(const ModelContext& model, Chunk& chunk, const TensorView& out) const;
  // drows [rows, d].
  void backward_experts(const ModelContext& model, const DispatchedRows& dout, Chunk& chunk,
                        ops::Accumulate gradients, const TensorView& drows) const;
  // What the work of the experts, forward and backward, follows from.
  GraphKey key_of(const ModelContext& model, const Chunk& chunk) const;
  // dx accumulates.
  void backward_router(const ModelContext& model, const Batch& batch, const Saved& saved,
                       const TensorView& dweights, const RouterGradient& losses,
                       const TensorView& dx) const;
  RouterGradient balance(const ModelContext& model, const Batch& batch, const Saved& saved,
                         double gradient_scale);

  int layer_;
  std::int64_t experts_;
  std::int64_t moe_layers_;  // of the model
  ExpertMask mask_;
  std::unique_ptr<Router> router_;
  RouterParams router_params_;
  Capacity capacity_;
  ExpertBank bank_;
  ZeroComputation zero_computation_;
  std::optional<SharedExpert> shared_;
  std::vector<std::unique_ptr<Balancer>> balancers_;
  std::vector<double> global_fractions_;
  mutable MoeFigures figures_;  // asking may have to wait, and changes nothing else
  // From the rows that were dispatched to those that are combined; they change no numbers.
  mutable std::unique_ptr<GraphSegment> forward_graph_, backward_graph_;
};

}  // namespace witan
