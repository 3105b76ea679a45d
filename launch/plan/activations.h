// The arenas of one training step, by arithmetic: the same requests in the same order as
// core/model/transformer.cc and its layers make them. A test compares the two.
#pragma once

#include "launch/plan/arena_count.h"
#include "launch/plan/routed_rows.h"

namespace witan {

struct ActivationArenas {
  ArenaCount saved, choice, scratch;
};

// High-water marks after a forward and backward of one micro-batch, of the busiest rank with
// `imbalance` (routed_rows.h). `windows`: the ranks of an expert-parallel group on one node
// exchange rows through shared memory.
ActivationArenas count_activations(const PlanSubject& subject, const PlanLayout& layout,
                                   double imbalance, bool windows);

// Of one layer, what is written in its forward, in bytes: the traffic of everything but matrix
// products.
struct LayerTraffic {
  std::int64_t attention_bytes = 0;  // norm and attention
  std::int64_t feed_forward_bytes = 0;
  std::int64_t attention_requests = 0, feed_forward_requests = 0;
};
LayerTraffic layer_traffic(const PlanSubject& subject, const PlanLayout& layout,
                           const RoutedRows& rows, bool moe);

}  // namespace witan
