// Balancing of the experts' load: auxiliary losses (a gradient) and expert biases (a state).
// Definitions: docs/numerics.md, section "Balancing". To add one: a message in
// configs/schema/model.proto, a file in balance/, a line in balancer_registry.cc.
//
// One object per (MoE layer, entry of moe.balance).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "configs/schema/model.pb.h"
#include "core/base/context.h"
#include "core/model/rank_group.h"
#include "core/model/router.h"
#include "core/tensor/arena.h"

namespace witan {

// What a balancing loss sees of one layer in one rank's micro-batch, in the backward.
struct BalanceInput {
  const RouterSaved& router;
  ops::Score score;
  std::int64_t sequences = 0;
  std::int64_t seq_len = 0;
  std::int64_t experts = 0;
  std::int64_t moe_layers = 0;
  double progress = 0.0;                     // of the run, for schedules
  std::span<const std::int64_t> counts;      // [experts]: of this micro-batch
  std::span<const double> global_fractions;  // [experts]: f_i for GLOBAL_BATCH scope; empty unless
                                             // a balancer asked for it
  // Factor on every gradient: loss tokens / routed tokens of the whole step. Gradients are divided
  // once by the loss tokens, router losses are means over the routed tokens.
  double gradient_scale = 1.0;
  std::int64_t micro_batch = 0;  // of the step, counted from 0
  std::span<const std::int64_t> pooled_counts =
      {};                                      // [experts]: of this micro-batch, all MoE layers
  RankGroup* all_ranks = &RankGroup::alone();  // for losses over all ranks' micro-batches
  std::int64_t zero_computation = 0;           // the last so many of the experts
  // [1] float64 on the device where `router` lies there, else empty. What a balancer adds to it
  // counts like what its backward returns.
  TensorView device_loss = {};
};

// `x` for a loss to add its gradient to: memory of the shape of `like`, zero at its first use.
void open_gradient(const Context& ctx, const TensorView& like, Arena& scratch, TensorView& x);

// The coefficient at this point of the run.
double scheduled(double coefficient, const configs::CoefficientSchedule& schedule, double progress);

// For losses sum_i f_i p_sum_i with a constant f [experts] and the sums of the probabilities over
// the tokens of s [tokens, experts]: adds the gradient to ds [tokens, experts], which lies beside
// s, and returns the value or adds it to input.device_loss.
double add_probability_loss(const Context& ctx, const BalanceInput& input, const TensorView& s,
                            std::span<const double> f, const TensorView& ds, Arena& scratch);

class Balancer {
 public:
  virtual ~Balancer() = default;

  virtual const char* name() const = 0;  // "switch_aux": the key in metrics

  // Adds this loss's gradient and returns its value summed over tokens: the step's loss is the sum
  // over all micro-batches and ranks, divided by the routed tokens.
  // What it leaves in `gradient` lies in `scratch`. ctx and `scratch` stand where input.router
  // lies.
  virtual double backward(const Context& ctx, const BalanceInput& input, RouterGradient& gradient,
                          Arena& scratch) {
    (void)ctx, (void)input, (void)gradient, (void)scratch;
    return 0.0;
  }
  // backward() looks at scores, logits or weights on the host: then the layer decides there.
  virtual bool reads_router() const { return false; }
  virtual bool needs_global_fractions() const { return false; }  // reads global_fractions
  // They must be those of all MoE layers together.
  virtual bool pools_layers() const { return false; }
  // global_fractions must be those of this very step (else: of the step before). `micro_batches`
  // per rank and step.
  virtual bool needs_exact_fractions(std::int64_t micro_batches) const {
    (void)micro_batches;
    return false;
  }

  // After each optimizer step, with counts [experts], or [tags, experts] if the mask is not empty,
  // summed over all ranks and micro-batches of the step. expert_bias [experts] may be empty. `step`
  // counts from 0.
  virtual void after_step(std::int64_t step, std::int64_t steps,
                          std::span<const std::int64_t> counts, const ExpertMask& mask,
                          const TensorView& expert_bias) {
    (void)step, (void)steps, (void)counts, (void)mask, (void)expert_bias;
  }
  // What must be saved with a checkpoint; null if nothing.
  virtual std::vector<std::int64_t>* state() { return nullptr; }
};

// The registry, in balancer_registry.cc.
struct BalancerEntry {
  configs::BalancerConfig::KindCase kind;
  const char* name;
  const char* example;  // a BalancerConfig in text format, for tests that go through all
  std::unique_ptr<Balancer> (*make)(const configs::BalancerConfig&);
};
std::span<const BalancerEntry> registered_balancers();
std::unique_ptr<Balancer> make_balancer(const configs::BalancerConfig& config);

// Defined one per file in balance/.
std::unique_ptr<Balancer> make_switch_aux(const configs::BalancerConfig& config);
std::unique_ptr<Balancer> make_z_loss(const configs::BalancerConfig& config);
std::unique_ptr<Balancer> make_expert_bias(const configs::BalancerConfig& config);
std::unique_ptr<Balancer> make_importance_cv2(const configs::BalancerConfig& config);
std::unique_ptr<Balancer> make_load_cv2(const configs::BalancerConfig& config);
std::unique_ptr<Balancer> make_device_balance(const configs::BalancerConfig& config);
std::unique_ptr<Balancer> make_entropy(const configs::BalancerConfig& config);
std::unique_ptr<Balancer> make_no_balance(const configs::BalancerConfig& config);

// (standard deviation / mean)^2 of x, and its gradient in place of x; 0 where the mean is 0.
double cv2_with_gradient(std::span<double> x);

// For losses on the CV^2 of sums over tokens, which some take over one rank's micro-batch and some
// over those that all ranks have at the same time (`all_ranks`).
class Cv2OfSums {
 public:
  // The sums of this rank's tokens go here.
  std::vector<double>& begin(std::int64_t experts);
  // CV^2 of the sums over `tokens` tokens here and, unless `all_ranks` is null, on the other ranks:
  // then collective. Leaves the gradient of the CV^2 times the number of all those tokens.
  double finish(std::int64_t tokens, RankGroup* all_ranks);
  double gradient(std::size_t expert) const { return sums_[expert]; }

 private:
  std::vector<double> sums_;  // [experts], in between with the tokens behind them
};

// One move of the biases for counts n, `rate` being that of this step (Wang et al. 2024). Counts as
// for after_step; with tags mean(n) becomes ExpertMask::even_counts(n), since an expert that few
// tokens may use cannot reach the mean of all.
void update_expert_bias(const configs::ExpertBias& config, double rate,
                        std::span<const std::int64_t> counts, const ExpertMask& mask,
                        const TensorView& bias);

}  // namespace witan
