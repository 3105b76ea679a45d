#include "launch/plan/routed_rows.h"

#include <algorithm>
#include <cmath>

namespace witan {
namespace {

// C(n - hit, k) / C(n, k): none of k draws without replacement from n hits one of `hit`.
double miss_probability(std::int64_t n, std::int64_t hit, std::int64_t k) {
  double probability = 1.0;
  for (std::int64_t i = 0; i < k; ++i) {
    probability *=
        std::max<double>(0.0, static_cast<double>(n - hit - i)) / static_cast<double>(n - i);
  }
  return probability;
}

// C(of, draws) as a double.
double binomial(std::int64_t of, std::int64_t draws) {
  if (draws < 0 || draws > of) return 0.0;
  double ways = 1.0;
  for (std::int64_t i = 1; i <= draws; ++i) {
    ways *= static_cast<double>(of - draws + i) / static_cast<double>(i);
  }
  return ways;
}

// group_limited: first which groups, then which of their experts.
double group_limited_probability(const configs::GroupLimitedSelection& selection,
                                 std::int64_t experts, std::int64_t own) {
  const std::int64_t size = experts / selection.n_group();
  const std::int64_t pool = size * selection.topk_group();
  if (own <= size) {
    const double chosen =
        static_cast<double>(selection.topk_group()) / static_cast<double>(selection.n_group());
    return chosen * (1.0 - miss_probability(pool, own, selection.k()));
  }
  const std::int64_t own_groups = own / size;
  double hit = 0.0;
  for (std::int64_t j = 1; j <= std::min(own_groups, selection.topk_group()); ++j) {
    const double ways = binomial(own_groups, j) *
                        binomial(selection.n_group() - own_groups, selection.topk_group() - j) /
                        binomial(selection.n_group(), selection.topk_group());
    hit += ways * (1.0 - miss_probability(pool, j * size, selection.k()));
  }
  return hit;
}

// Slots of one expert from one rank's tokens, at most.
double capacity_of(const configs::CapacityConfig& capacity, double tokens, double top_k,
                   double experts) {
  return std::max(static_cast<double>(capacity.min_capacity()),
                  std::ceil(top_k * tokens * capacity.factor() / experts));
}

std::int64_t whole(double rows) { return std::llround(std::ceil(rows - 1e-9)); }

}  // namespace

double rank_probability(const PlanSubject& subject, int ranks) {
  const std::int64_t own = subject.dims.experts / ranks;
  const configs::RouterConfig& router = subject.run.model().moe().router();
  if (router.has_group_limited()) {
    return group_limited_probability(router.group_limited(), subject.dims.experts, own);
  }
  return 1.0 - miss_probability(subject.dims.entries, own, subject.dims.top_k);
}

RoutedRows routed_rows(const PlanSubject& subject, const PlanLayout& layout, double imbalance,
                       std::int64_t shorter) {
  RoutedRows result;
  result.tokens = layout.micro_batch * (subject.seq_len() - shorter);
  const ModelDims& dims = subject.dims;
  if (dims.experts == 0) return result;
  const int ranks = layout.expert_parallel;
  const auto tokens = static_cast<double>(result.tokens);
  const auto experts = static_cast<double>(dims.experts);
  // Zero-computation experts take their share of the choices; nothing travels for them.
  const double top_k =
      static_cast<double>(dims.top_k) * experts / static_cast<double>(dims.entries);

  if (ranks == 1) imbalance = 1.0;  // nobody to be uneven with
  // A rank gets at most every token of its group for each of its experts.
  double slots = std::min({tokens * top_k * imbalance, tokens * experts, tokens * ranks * top_k});
  if (subject.run.model().moe().has_capacity()) {
    const configs::CapacityConfig& capacity = subject.run.model().moe().capacity();
    const double places = experts * capacity_of(capacity, tokens, static_cast<double>(dims.top_k),
                                                static_cast<double>(dims.entries));
    slots = capacity.pad_to_capacity() ? places : std::min(slots, places);
  }
  result.slots = whole(slots);
  const bool pads = subject.run.model().moe().capacity().pad_to_capacity();
  result.sent_slots = pads ? result.slots : whole(tokens * top_k);
  result.chosen_slots = std::min(result.slots, whole(tokens * top_k));
  if (pads && ranks > 1) {  // a row for each place, whoever chose it
    result.rows = result.sent = result.slots;
    result.own = result.slots / ranks;
    result.sent_near = result.slots * (layout.near_ranks() - 1) / ranks;
    result.sent_far = result.received_far = result.slots * (ranks - layout.near_ranks()) / ranks;
    return result;
  }
  if (ranks == 1) {
    result.rows = result.own = result.sent = result.tokens;
    return result;
  }
  const double per_rank = subject.exchange.rows_per == RowsPer::kChoice
                              ? top_k / ranks
                              : rank_probability(subject, ranks);
  const double most = subject.exchange.rows_per == RowsPer::kChoice ? slots : tokens * ranks;
  result.rows = whole(std::min(tokens * ranks * per_rank * imbalance, most));
  result.own = std::min(result.rows, whole(std::min(tokens, tokens * per_rank * imbalance)));
  result.sent = whole(tokens * ranks * per_rank);
  result.sent_near = whole(tokens * (layout.near_ranks() - 1) * per_rank);
  result.sent_far = whole(tokens * (ranks - layout.near_ranks()) * per_rank);
  result.received_far = whole(tokens * (ranks - layout.near_ranks()) * per_rank * imbalance);
  return result;
}

}  // namespace witan
