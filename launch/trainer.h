// One optimizer step, top to bottom: batches, forward, backward, reduction, norm, update, balance.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "configs/schema/run.pb.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/data/batch_builder.h"
#include "launch/data/sample_stream.h"
#include "launch/engine.h"
#include "launch/metrics/step_metrics.h"
#include "launch/routing_trace.h"
#include "optim/sharded_adamw.h"

namespace witan {

class Trainer {
 public:
  // `engine` has gradients; everything outlives the trainer. end_of_document: -1 if documents are
  // not told apart.
  Trainer(const configs::RunConfig& run, Engine& engine, const SampleStream& stream,
          std::int32_t end_of_document);
  ~Trainer();

  // The next step. Collective. `stop`: this rank was asked to stop; the answer in the metrics is
  // the same on all ranks. A loss or gradient that is not finite makes metrics.nonfinite non-empty
  // and leaves the parameters as they are.
  StepMetrics step(bool stop);

  // Its first half, for tests and `verify`: gradients summed over all ranks (not yet divided), in
  // params().grad with zero1 off. Returns the metrics so far.
  StepMetrics gradients(bool stop);
  double loss_tokens() const { return static_cast<double>(loss_tokens_); }

  // From the next step on this hook decides the routing, in place of what train.routing says.
  void set_routing(std::unique_ptr<RoutingHook> hook) {
    hook_ = std::move(hook);
    trace_ = nullptr;
  }

  std::int64_t steps_done() const { return step_; }
  ShardedAdamW& optimizer() { return optimizer_; }
  // What a checkpoint needs besides tensors, and back.
  TrainState state() const;
  void restore(const TrainState& state);

 private:
  void load_batches();
  double forward_backward();
  void update_balance(const StepMetrics& metrics);
  void use_previous_counts();

  configs::RunConfig run_;
  Engine& engine_;
  const SampleStream& stream_;
  std::int32_t end_of_document_;
  std::int64_t per_rank_;     // sequences per step and rank
  std::int64_t micro_batch_;  // sequences per forward
  ShardedAdamW optimizer_;
  MetricsReducer metrics_;
  std::unique_ptr<RoutingHook> hook_;
  RoutingTrace* trace_ = nullptr;  // hook_, if it records or replays
  bool fractions_needed_ = false;
  bool fractions_exact_ = false;

  std::int64_t step_ = 0;     // optimizer steps done
  std::int64_t samples_ = 0;  // training sequences consumed
  std::int64_t loss_tokens_ = 0;
  std::vector<std::vector<std::int64_t>>
      previous_counts_;                   // per MoE layer; empty: not used, or step 0
  std::vector<std::int64_t> all_counts_;  // [MoE layers, experts]: they in one piece
  std::vector<BatchBuffers> batches_;     // the micro-batches of this step
};

}  // namespace witan
