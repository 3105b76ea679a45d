// Ends a run whose ranks wait for each other forever, and says where: an operation that one rank
// never joins (a dead or stuck peer, ranks that disagree about the order of collectives) would
// otherwise hang every rank in silence.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace witan {

// Exit code of a run that the watchdog ended.
inline constexpr int kWatchdogExitCode = 3;

// A collective operation as its rank sees it. Counts in rows for the ..._v operations, by rank;
// else the one number of elements.
struct CollectiveCall {
  const char* operation = "";
  const char* communicator = "";
  int rank = 0;  // in the communicator
  int size = 1;
  std::int64_t sequence = 0;  // of this communicator's operations, from 1: compare it between ranks
  std::span<const int> send_counts = {};
  std::span<const int> recv_counts = {};
};

// "all_to_all_v on communicator 'expert' (rank 1 of 4, operation 17, ...)". At most 16 counts are
// printed.
std::string describe(const CollectiveCall& call);

class Watchdog {
 public:
  // 0: no limit.
  explicit Watchdog(double limit_seconds) : limit_seconds_(limit_seconds) {}

  bool expired(double waited_seconds) const;
  // Prints the message to stderr.
  void report(const CollectiveCall& call, double waited_seconds) const;
  // The same, and ends every rank with kWatchdogExitCode.
  [[noreturn]] void bark(const CollectiveCall& call, double waited_seconds) const;

 private:
  double limit_seconds_;
};

// From now on no wait of this process lasts longer than `seconds`, whatever the limit of its
// communicator: for a handler of the signal that tells of a dying run. Async-signal-safe.
void shorten_waits(double seconds) noexcept;

}  // namespace witan
