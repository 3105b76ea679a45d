// How many rows a rank sends and receives for the tokens of one forward in one MoE layer.
#pragma once

#include <cstdint>

#include "launch/plan/subject.h"

namespace witan {

// Of the busiest rank of a group, in one micro-batch. Sent rows do not count what stays.
struct RoutedRows {
  std::int64_t tokens = 0;
  std::int64_t rows = 0;        // that its experts work on: each (token, rank), or (token, choice)
  std::int64_t own = 0;         // of those, rows of this rank's own tokens
  std::int64_t slots = 0;       // pairs of row and expert
  std::int64_t sent_slots = 0;  // those of this rank's own tokens, wherever they go
  std::int64_t chosen_slots =
      0;                       // of sent_slots those that a token chose: pad_to_capacity adds some
  std::int64_t sent = 0;       // all rows of its own tokens, those that stay included
  std::int64_t sent_near = 0;  // to other ranks of the node
  std::int64_t sent_far = 0;   // to other nodes
  std::int64_t received_far = 0;
};

// Expectation for experts chosen uniformly at random without replacement (among topk_group random
// groups with group_limited); `imbalance`: load of the busiest rank over the mean, at least 1.
// Capacity limits the slots. `shorter`: tokens that every sequence has less, as for a module of
// multi-token prediction.
RoutedRows routed_rows(const PlanSubject& subject, const PlanLayout& layout, double imbalance,
                       std::int64_t shorter = 0);

// Probability that a token has an expert among the experts of one of `ranks` ranks.
double rank_probability(const PlanSubject& subject, int ranks);

}  // namespace witan
