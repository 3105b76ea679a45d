// expert_choice: each expert takes its C = min(T, ceil(T capacity_factor k / E)) best tokens by
// their scores (Zhou et al. 2022), of one rank's micro-batch or of those of the whole
// expert-parallel group, whose scores are gathered; ties go to the earlier token. With fewer tokens
// that may use it, an expert takes those. A token's choice depends on the other tokens.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "core/model/router.h"
#include "core/ops/topk.h"

namespace witan {
namespace {

using configs::ExpertChoiceSelection;

// Whole numbers in the order of the scores: also for NaN, which has no place among numbers.
std::uint32_t key_of(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0F);  // -0 becomes 0
  return (bits >> 31) != 0 ? ~bits : bits | (std::uint32_t{1} << 31);
}
std::uint64_t key_of(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x + 0.0);
  return (bits >> 63) != 0 ? ~bits : bits | (std::uint64_t{1} << 63);
}

// visit(token) for the `count` largest of one expert's keys, ties to the earlier token; ascending.
template <class T, class Key, class Visit>
void visit_largest(const std::vector<Key>& keys, std::int64_t count, std::vector<Key>& work,
                   Visit&& visit) {
  if (count == 0) return;
  work = keys;
  const auto last = work.begin() + count - 1;
  std::nth_element(work.begin(), last, work.end(), std::greater<>());
  const Key threshold = *last;
  const Key barred = key_of(-std::numeric_limits<T>::infinity());
  std::int64_t equal = std::count(work.begin(), last + 1, threshold);
  for (std::size_t token = 0; token < keys.size(); ++token) {
    if (keys[token] <= barred || keys[token] < threshold ||
        (keys[token] == threshold && equal-- <= 0))
      continue;
    visit(static_cast<std::int64_t>(token));
  }
}

class ExpertChoiceRouter final : public Router {
 public:
  ExpertChoiceRouter(const configs::RouterConfig& config, const RouterPlace& place)
      : Router(config, place), config_(config.expert_choice()) {}

  std::int64_t top_k() const override { return place().experts; }

 protected:
  void select(const Context&, const SelectionInput& in, const TensorView& indices) const override {
    const bool group = config_.scope() == ExpertChoiceSelection::EXPERT_GROUP;
    const RankGroup::Gathered all =
        group ? in.expert_ranks.gather(in.ranked) : RankGroup::Gathered{in.ranked, 0};
    const std::int64_t tokens = in.s.rows();
    const std::int64_t experts = in.s.cols();
    chosen_.assign(static_cast<std::size_t>(tokens * experts), 0);
    dispatch_float(in.s.dtype, "expert choice",
                   [&](auto zero) { choose<decltype(zero)>(all.rows, all.first, tokens); });
    auto* index = indices.as<std::int32_t>();
    std::fill_n(index, indices.size(), ops::kNoChoice);
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::int32_t* next = index + t * experts;
      for (std::int64_t e = 0; e < experts; ++e) {
        if (chosen_[static_cast<std::size_t>(t * experts + e)] != 0) {
          *next++ = static_cast<std::int32_t>(e);
        }
      }
    }
  }

 private:
  std::int64_t capacity(std::int64_t tokens, std::int64_t experts) const {
    const double share = config_.capacity_factor() * static_cast<double>(config_.k() * tokens) /
                         static_cast<double>(experts);
    return std::min(tokens, static_cast<std::int64_t>(std::ceil(share - 1e-9)));
  }

  // Marks in chosen_ who chose the tokens [first, first + own) of s [tokens, experts].
  template <class T>
  void choose(const TensorView& s, std::int64_t first, std::int64_t own) const {
    const std::int64_t tokens = s.rows();
    const std::int64_t experts = s.cols();
    const std::int64_t each = capacity(tokens, experts);
    const T* score = s.as<T>();
#pragma omp parallel
    {
      std::vector<decltype(key_of(T{}))> keys(static_cast<std::size_t>(tokens)), work;
#pragma omp for schedule(static)
      for (std::int64_t e = 0; e < experts; ++e) {
        for (std::size_t t = 0; t < keys.size(); ++t) {
          keys[t] = key_of(score[static_cast<std::int64_t>(t) * experts + e]);
        }
        visit_largest<T>(keys, each, work, [&](std::int64_t t) {
          if (t < first || t >= first + own) return;
          chosen_[static_cast<std::size_t>((t - first) * experts + e)] = 1;
        });
      }
    }
  }

  ExpertChoiceSelection config_;
  mutable std::vector<std::uint8_t> chosen_;  // [tokens, experts]; keeps its capacity
};

}  // namespace

std::unique_ptr<Router> make_expert_choice_router(const configs::RouterConfig& config,
                                                  const RouterPlace& place) {
  return std::make_unique<ExpertChoiceRouter>(config, place);
}

}  // namespace witan
