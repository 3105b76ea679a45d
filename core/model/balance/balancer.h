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

// Where a balancing loss adds up: in input.device_loss, or in `value` on the host, which is to be
// returned then.
TensorView loss_of(const BalanceInput& input, double& value);

// For losses sum_i f_i p_sum_i with a constant f [experts] and the sums of the probabilities over
// the tokens of s [tokens, experts]: adds the gradient to ds [tokens, experts], which lies beside
// s, and returns the value or adds it to input.device_loss.
double add_probability_loss(const Context& ctx, const BalanceInput& input, const TensorView& s,
                            std::span<const double> f, const TensorView& ds, Arena& scratch);
// The same with f (float32 or float64) and coefficient (as s) beside s, [experts]: f
// input.gradient_scale.
double add_probability_loss(const Context& ctx, const BalanceInput& input, const TensorView& s,
                            const TensorView& f, const TensorView& coefficient,
                            const TensorView& ds, Arena& scratch);

// For losses coefficient * tokens * CV^2 of sums over tokens: those of this rank's micro-batch, or
// with `global` of what all ranks have at the same time (input.all_ranks; then collective). sums
// [experts + 1] float64, beside input.router, has the sums, and room for a number; they become the
// gradient of the CV^2 times the number of all those tokens. Returns the value or adds it to
// input.device_loss.
double add_cv2_loss(const Context& ctx, const BalanceInput& input, double coefficient, bool global,
                    const TensorView& sums);

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

// One move of the biases for counts n, `rate` being that of this step (Wang et al. 2024). Counts as
// for after_step; with tags mean(n) becomes ExpertMask::even_counts(n), since an expert that few
// tokens may use cannot reach the mean of all.
void update_expert_bias(const configs::ExpertBias& config, double rate,
                        std::span<const std::int64_t> counts, const ExpertMask& mask,
                        const TensorView& bias);

}  // namespace witan
