#include "parallel/watchdog.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <limits>
#include <sstream>

#include "parallel/mpi_environment.h"

namespace witan {
namespace {

constexpr double kForever = std::numeric_limits<double>::infinity();
std::atomic<double> shortened_limit{kForever};
static_assert(std::atomic<double>::is_always_lock_free, "shorten_waits is called by handlers");

void print_counts(std::ostream& out, const char* what, std::span<const int> counts) {
  constexpr std::size_t kMostPrinted = 16;
  if (counts.empty()) return;
  out << ", " << what;
  for (std::size_t i = 0; i < std::min(counts.size(), kMostPrinted); ++i) out << ' ' << counts[i];
  if (counts.size() > kMostPrinted) out << " ...";
}

}  // namespace

std::string describe(const CollectiveCall& call) {
  std::ostringstream out;
  out << call.operation << " on communicator '" << call.communicator << "' (rank " << call.rank
      << " of " << call.size << ", operation " << call.sequence;
  print_counts(out, "sends", call.send_counts);
  print_counts(out, "receives", call.recv_counts);
  out << ')';
  return std::move(out).str();
}

bool Watchdog::expired(double waited_seconds) const {
  const double limit = limit_seconds_ > 0.0 ? limit_seconds_ : kForever;
  return waited_seconds > std::min(limit, shortened_limit.load(std::memory_order_relaxed));
}

void Watchdog::report(const CollectiveCall& call, double waited_seconds) const {
  std::fprintf(stderr,
               "witan: watchdog: waited %.1f s in %s. A rank is dead or stuck, or the ranks do not "
               "issue the same operations; ending the run with exit code %d.\n",
               waited_seconds, describe(call).c_str(), kWatchdogExitCode);
  std::fflush(stderr);
}

void Watchdog::bark(const CollectiveCall& call, double waited_seconds) const {
  report(call, waited_seconds);
  MpiEnvironment::abort(kWatchdogExitCode);
}

void shorten_waits(double seconds) noexcept {
  shortened_limit.store(seconds, std::memory_order_relaxed);
}

}  // namespace witan
