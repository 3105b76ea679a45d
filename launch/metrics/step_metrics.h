// What one step measured, summed over all ranks by one message of fixed shape: the same on every
// rank, MoE layers or not, tokens or not.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/model/moe_layer.h"
#include "core/model/mtp.h"
#include "parallel/communicator.h"

namespace witan {

struct PhaseSeconds {
  double data = 0.0;       // reading samples and making batches
  double compute = 0.0;    // forward and backward, without the waiting below
  double exchange = 0.0;   // waiting for dispatch and combine
  double reduce = 0.0;     // gradient reduction
  double optimizer = 0.0;  // norm, update, gathering the new values
  double total() const { return data + compute + exchange + reduce + optimizer; }
};

struct LayerMetrics {
  int layer = 0;
  std::int64_t computing = 0;        // the first so many experts; the others are zero-computation
  std::vector<std::int64_t> counts;  // [experts] over all tags
  std::vector<std::int64_t> tag_counts;  // [tags, experts]
  std::vector<double> losses;            // per balancer: its share of the step's loss
  double dropped = 0.0;                  // pairs in counts that found no place at their expert
  double rounds = 1.0;                   // mean number of rounds of a micro-batch
  double top_weight = 0.0;               // mean largest weight
  double logit_rms = 0.0;                // root mean square of the router logits
  double lse = 0.0;                      // mean logsumexp(z)

  // Of the experts that compute, whose load is what matters.
  std::span<const std::int64_t> computing_counts() const {
    return {counts.data(), static_cast<std::size_t>(computing)};
  }
  // Share of the choices that fell on zero-computation experts.
  double zero_computation_share() const;
};

struct StepMetrics {
  std::int64_t step = 0;           // steps done, this one included
  double loss = 0.0;               // mean cross-entropy of the loss tokens, nats
  double router_loss = 0.0;        // sum of the balancing losses of all layers
  double mtp_loss = 0.0;           // what multi-token prediction adds to the loss that is trained
  std::vector<double> mtp_losses;  // its mean cross-entropy at each depth, nats
  double lr = 0.0;
  double grad_norm = 0.0;
  std::int64_t tokens = 0;  // of all ranks
  bool skipped = false;     // not finite; no update
  std::string nonfinite;    // name of the tensor, or "loss"
  bool stop = false;        // some rank was asked to stop
  PhaseSeconds seconds;     // mean over ranks
  double wall = 0.0;        // of the whole step, this rank
  std::vector<LayerMetrics> layers;

  // What the gradient is of.
  double objective() const { return loss + mtp_loss + router_loss; }
};

// Makes and reads the message. `stop`: this rank was asked to stop.
class MetricsReducer {
 public:
  // `mtp`: by depth; it outlives the reducer.
  MetricsReducer(std::vector<MoeLayer*> layers, std::span<MtpStats> mtp, Communicator& world);

  // Sums loss, MoeStats and MtpStats (which are then cleared), seconds and stop over all ranks;
  // fills the fields of `metrics` that depend on them. Divides by the step's loss tokens and routed
  // tokens. Collective.
  void reduce(double loss_sum, bool stop, double loss_tokens, double routed_tokens,
              const PhaseSeconds& seconds, StepMetrics& metrics);

  // Only the expert counts of the layers [layers, experts], summed over all ranks, into global
  // fractions f_i of each layer. The stats stay. Collective.
  void reduce_fractions();

 private:
  std::vector<MoeLayer*> layers_;
  std::span<MtpStats> mtp_;
  Communicator& world_;
  std::vector<double> message_;
  std::vector<std::int64_t> counts_;
};

// f_i of each layer from counts [layers, experts]: its own shares or, where a balancer pools them,
// those of all layers together.
void set_global_fractions(std::span<MoeLayer* const> layers, std::span<const std::int64_t> counts);

}  // namespace witan
