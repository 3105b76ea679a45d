// Parameters and floating-point operations of a model, from the table of tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/plan/subject.h"

namespace witan {

struct ParameterCounts {
  std::int64_t total = 0;   // trained
  std::int64_t active = 0;  // of those, what one token uses; the input embedding included
  std::int64_t expert = 0;  // of the total: in routed experts
  std::int64_t state = 0;   // expert biases: moved by balancing, not trained
  std::int64_t mtp = 0;     // of the total: in modules of multi-token prediction
  double efficiency() const { return static_cast<double>(active) / static_cast<double>(total); }
};
ParameterCounts count_parameters(const PlanSubject& subject);
// Trained parameters that a rank holds.
std::int64_t parameters_per_rank(const PlanSubject& subject, const PlanLayout& layout);

// Which part of a step a matrix belongs to: "attention", "experts", "shared expert", "dense ffn",
// "router", "multi-token prediction" (the projection of a module), "head", or "embedding".
std::string part_of(const ParamInfo& info);

// Share of a sequence's positions that a layer works on: 1 but for modules of multi-token
// prediction.
double position_share(const PlanSubject& subject, int layer);
// How often a position passes the output head: once, and once for each module that works on it.
double head_passes(const PlanSubject& subject);

// Matrix products of one token, forward, in one part: 2 x its matrix parameters (top_k of the
// experts). A tied head counts as the head.
struct PartFlops {
  std::string part;
  double forward = 0.0;
};
struct Flops {
  std::vector<PartFlops> products;
  double attention = 0.0;  // scores and values of one token at the config's sequence length,
                           // causal, forward, all layers: layers * 2 S heads (qk_dim + v_dim) / 2

  double forward() const;
  // 6 x active matrix parameters + 3 x attention: the backward of a product is two products.
  double training() const { return 3.0 * forward(); }
};
Flops count_flops(const PlanSubject& subject);
// Of a dense model of the same shape whose every token uses every expert.
double dense_forward_flops(const PlanSubject& subject);

}  // namespace witan
