#include "launch/data/blend.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace witan {
namespace {

constexpr std::int64_t kShortCycle = 4096;
constexpr std::int64_t kLongCycle = std::int64_t{1} << 20;

bool exact(const std::vector<double>& shares, std::int64_t cycle) {
  return std::all_of(shares.begin(), shares.end(), [cycle](double share) {
    const double slots = share * static_cast<double>(cycle);
    return std::abs(slots - std::round(slots)) < 1e-9 && slots > 0.5;
  });
}

// The shortest cycle that meets the shares exactly, if there is one of at most 4096 slots; else a
// power of two that gives the rarest dataset 256 slots, as far as 2^20 allow.
std::int64_t cycle_length(const std::vector<double>& shares) {
  for (std::int64_t cycle = 1; cycle <= kShortCycle; ++cycle)
    if (exact(shares, cycle)) return cycle;
  const double rarest = *std::min_element(shares.begin(), shares.end());
  std::int64_t cycle = kShortCycle;
  while (cycle < kLongCycle && rarest * static_cast<double>(cycle) < 256) cycle *= 2;
  return cycle;
}

}  // namespace

Blend::Blend(const std::vector<std::string>& names, const std::vector<double>& weights)
    : per_cycle_(weights.size(), 0) {
  WITAN_CHECK(!weights.empty() && names.size() == weights.size(), "a blend of nothing");
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(weight / sum);

  // Each slot goes to the dataset that is furthest behind its share; ties to the first.
  slots_.resize(static_cast<std::size_t>(cycle_length(shares)));
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    std::size_t chosen = 0;
    double largest = -1;
    for (std::size_t d = 0; d < shares.size(); ++d) {
      const double behind =
          shares[d] * static_cast<double>(s + 1) - static_cast<double>(per_cycle_[d]);
      if (behind > largest + 1e-9) {
        largest = behind;
        chosen = d;
      }
    }
    slots_[s] = {static_cast<std::int32_t>(chosen), static_cast<std::int32_t>(per_cycle_[chosen])};
    ++per_cycle_[chosen];
  }
  for (std::size_t d = 0; d < shares.size(); ++d)
    if (per_cycle_[d] == 0)
      throw_user_error("data.train[", d, "].weight (dataset \"", names[d], "\"): ", weights[d],
                       " is a share of ", shares[d], " of the samples; the smallest possible is ",
                       1.0 / static_cast<double>(kLongCycle));
}

Blend::Draw Blend::operator()(std::int64_t n) const {
  WITAN_CHECK(n >= 0, "sample ", n);
  const Slot& slot = slots_[static_cast<std::size_t>(n % cycle())];
  const std::int64_t whole_cycles = n / cycle();
  return {slot.dataset,
          whole_cycles * per_cycle_[static_cast<std::size_t>(slot.dataset)] + slot.index};
}

}  // namespace witan
