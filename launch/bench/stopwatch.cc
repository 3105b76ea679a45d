#include "launch/bench/stopwatch.h"

#include <chrono>
#include <ctime>
#include <numeric>

#include "core/base/error.h"
#include "core/ops/parallel.h"

namespace witan {
namespace {

// Returns how many there were.
int set_threads([[maybe_unused]] int threads) {
#ifdef _OPENMP
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  return before;
#else
  return 1;
#endif
}

}  // namespace

double Stopwatch::now() const {
  if (clock_ == BenchClock::kWall) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  // Each thread asks for itself: of another one the kernel knows only up to its last tick.
  const int threads = ops::available_threads();
  std::vector<double> seconds(static_cast<std::size_t>(threads));
  ops::parallel_for(threads, [&](std::int64_t thread) {
    timespec used{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    seconds[static_cast<std::size_t>(thread)] =
        static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
  });
  return std::accumulate(seconds.begin(), seconds.end(), 0.0) / threads;
}

Stopwatch::Threads::Threads(int threads) : before_(set_threads(threads)) {}

Stopwatch::Threads::~Threads() { set_threads(before_); }

std::vector<double> Stopwatch::slowest(const std::string& what) const {
  const auto found = samples_.find(what);
  WITAN_CHECK(found != samples_.end(), "\"", what, "\" was never timed");
  std::vector<double> samples = found->second;
  const auto count = static_cast<std::int64_t>(samples.size());
  world_->all_reduce(view_of(samples.data(), {count}), ReduceOp::kMax).wait();
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
