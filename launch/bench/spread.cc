#include "launch/bench/spread.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace witan {
namespace {

// Between the two samples around the position `share` of the way through the sorted samples.
double quantile(const std::vector<double>& sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

}  // namespace

Spread spread_of(std::vector<double> samples) {
  WITAN_CHECK(!samples.empty(), "the spread of no samples");
  std::sort(samples.begin(), samples.end());
  return {quantile(samples, 0.5), quantile(samples, 0.25), quantile(samples, 0.75),
          static_cast<std::int64_t>(samples.size())};
}

}  // namespace witan
