// What a rank sends to other ranks in one step, by kind.
#pragma once

#include <string>
#include <vector>

#include "launch/plan/routed_rows.h"

namespace witan {

struct TrafficPart {
  std::string kind;         // "dispatch", "combine backward", "expert gradients"
  std::string group;        // "expert", "world" or "replica": who takes part
  double near_bytes = 0.0;  // to ranks of the same node
  double far_bytes = 0.0;   // to other nodes
  double messages = 0.0;    // to one other rank each
  double bytes() const { return near_bytes + far_bytes; }
};

// Dispatch and combine and their backwards, what recomputation sends again, plan and weights of the
// routing, gradients, updated weights. Kinds that send nothing are left out. The mean over the
// ranks: balanced routing (an uneven load moves bytes from rank to rank).
std::vector<TrafficPart> plan_traffic(const PlanSubject& subject, const PlanLayout& layout);

// The name of a kind that recomputation sends again.
inline constexpr const char* kDispatchAgain = "dispatch, recomputed";
inline constexpr const char* kCombineAgain = "combine, recomputed";

}  // namespace witan
