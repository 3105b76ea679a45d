#include "launch/bench/stopwatch.h"

#include "core/base/error.h"

namespace witan {

std::vector<double> Stopwatch::slowest(const std::string& what) const {
  const auto found = samples_.find(what);
  WITAN_CHECK(found != samples_.end(), "\"", what, "\" was never timed");
  std::vector<double> samples = found->second;
  const auto count = static_cast<std::int64_t>(samples.size());
  world_.all_reduce(view_of(samples.data(), {count}), ReduceOp::kMax).wait();
  return samples;
}

Spread Stopwatch::seconds(const std::string& what) const { return spread_of(slowest(what)); }

Spread Stopwatch::seconds_of_sum(const std::vector<std::string>& parts) const {
  std::vector<double> sum;
  for (const std::string& part : parts) {
    const std::vector<double> samples = slowest(part);
    if (sum.empty()) sum.resize(samples.size(), 0.0);
    WITAN_CHECK(sum.size() == samples.size(), "\"", part, "\" was timed ", samples.size(),
                " times, \"", parts.front(), "\" ", sum.size(), " times");
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += samples[i];
  }
  return spread_of(sum);
}

}  // namespace witan
