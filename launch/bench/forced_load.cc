#include "launch/bench/forced_load.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace witan {

std::vector<double> expert_shares(const ForcedLoad::Load& load) {
  const auto experts = static_cast<double>(load.experts);
  const auto hot = static_cast<double>(load.hot);
  const double most = 1.0 / static_cast<double>(load.top_k);
  const double hottest = (1.0 + load.max_vio) / experts;
  if (hottest > most || hottest * hot > 1.0) {
    throw_user_error("a MaxVio of ", load.max_vio, " for ", load.hot, " of ", load.experts,
                     " experts, top-", load.top_k, "; at most ",
                     std::min(most, 1.0 / hot) * experts - 1.0, " is possible");
  }
  const double rest = load.hot == load.experts ? hottest : (1.0 - hottest * hot) / (experts - hot);
  std::vector<double> shares(static_cast<std::size_t>(load.experts), rest);
  std::fill_n(shares.begin(), load.hot, hottest);
  return shares;
}

ForcedLoad::ForcedLoad(const Load& load, std::int64_t tokens, std::uint64_t seed) {
  deal(load, tokens);
  shuffle(load.top_k, seed);
}

// Whole counts from the shares, then the experts one after the other down the columns of
// [tokens, top_k]: an expert with at most `tokens` rows meets no token twice.
void ForcedLoad::deal(const Load& load, std::int64_t tokens) {
  const std::int64_t choices = tokens * load.top_k;
  const std::vector<double> shares = expert_shares(load);
  indices_.resize(static_cast<std::size_t>(choices));
  counts_.assign(shares.size(), 0);
  double target = 0.0;
  std::int64_t dealt = 0;
  for (std::size_t e = 0; e < shares.size(); ++e) {
    target += shares[e] * static_cast<double>(choices);
    const std::int64_t end =
        e + 1 == shares.size() ? choices : std::min<std::int64_t>(choices, std::llround(target));
    for (; dealt < end && counts_[e] < tokens; ++dealt, ++counts_[e]) {
      const std::int64_t column = dealt / tokens;
      const std::int64_t token = dealt % tokens;
      indices_[static_cast<std::size_t>(token * load.top_k + column)] =
          static_cast<std::int32_t>(e);
    }
  }
  WITAN_CHECK(dealt == choices, "dealt ", dealt, " of ", choices, " choices");
}

// Swaps choices between random tokens, a column at a time, wherever both keep different experts.
void ForcedLoad::shuffle(std::int64_t top_k, std::uint64_t seed) {
  const Random random(seed, "forced load");
  const std::int64_t tokens = static_cast<std::int64_t>(indices_.size()) / top_k;
  for (std::int64_t i = 0; i < tokens * top_k; ++i) {
    const std::int64_t token = i / top_k;
    const auto draw = static_cast<std::uint64_t>(i);
    const auto other =
        static_cast<std::int64_t>(random.below(draw, static_cast<std::uint64_t>(tokens)));
    std::int32_t& mine = indices_[static_cast<std::size_t>(i)];
    std::int32_t& theirs = indices_[static_cast<std::size_t>(other * top_k + i % top_k)];
    std::swap(mine, theirs);
    if (chosen_twice(token, top_k) || chosen_twice(other, top_k)) std::swap(mine, theirs);
  }
}

bool ForcedLoad::chosen_twice(std::int64_t token, std::int64_t top_k) const {
  const std::int32_t* choice = indices_.data() + token * top_k;
  for (std::int64_t j = 1; j < top_k; ++j) {
    if (std::find(choice, choice + j, choice[j]) != choice + j) return true;
  }
  return false;
}

void ForcedLoad::on_route(int layer, const Batch& batch, const TensorView& indices,
                          std::int64_t experts) {
  (void)layer;
  (void)batch;
  WITAN_CHECK(experts == static_cast<std::int64_t>(counts_.size()) &&
                  indices.size() == static_cast<std::int64_t>(indices_.size()),
              "forced load of ", indices_.size(), " choices among ", counts_.size(),
              " experts; asked for ", indices.size(), " among ", experts);
  std::copy(indices_.begin(), indices_.end(), indices.as<std::int32_t>());
}

}  // namespace witan
