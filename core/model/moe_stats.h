// What is measured in an MoE layer while it runs (moe figures of docs/numerics.md, section
// "Metrics"): sums over this rank's tokens since the last clear(). Sums over ranks are made by the
// trainer in one message.
#pragma once

#include <cstdint>
#include <vector>

namespace witan {

struct MoeStats {
  MoeStats(std::int64_t experts_, std::int64_t tags_, std::size_t losses_)
      : experts(experts_),
        tags(tags_),
        counts(static_cast<std::size_t>(tags_ * experts_), 0),
        losses(losses_, 0.0) {}

  void clear() {
    counts.assign(counts.size(), 0);
    losses.assign(losses.size(), 0.0);
    tokens = dropped = micro_batches = rounds = logits = 0;
    top_weight = logit_square = lse = 0.0;
  }

  std::int64_t experts;
  std::int64_t tags;
  std::vector<std::int64_t> counts;  // [tags, experts] (token, choice) pairs
  std::vector<double> losses;        // one per balancer, summed over tokens (Balancer::backward)
  std::int64_t tokens = 0;
  std::int64_t dropped = 0;  // pairs in counts that found no place at their expert
  std::int64_t micro_batches = 0;
  std::int64_t rounds = 0;    // in which they were worked on
  double top_weight = 0.0;    // sum of the largest weight of each token
  std::int64_t logits = 0;    // of experts that the token may use
  double logit_square = 0.0;  // sum of their squares
  double lse = 0.0;           // sum of logsumexp(z)
};

}  // namespace witan
