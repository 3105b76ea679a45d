// Timings of things that are measured in turns, so that whatever else the machine does hits all of
// them.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "launch/bench/spread.h"
#include "parallel/communicator.h"

namespace witan {

class Stopwatch {
 public:
  explicit Stopwatch(Communicator& world) : world_(world) {}

  // Collective: all ranks start together, each times its own part.
  template <class F>
  void time(const std::string& what, const F& f) {
    world_.barrier();
    const auto start = Clock::now();
    f();
    add(what, std::chrono::duration<double>(Clock::now() - start).count());
  }
  // A time that was measured elsewhere.
  void add(const std::string& what, double seconds) { samples_[what].push_back(seconds); }

  // Of every turn the time of the slowest rank, and their spread. Collective; the same at all
  // ranks, which must have timed the same things.
  Spread seconds(const std::string& what) const;
  // The same for the sum of several things, turn by turn.
  Spread seconds_of_sum(const std::vector<std::string>& parts) const;

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<double> slowest(const std::string& what) const;

  Communicator& world_;
  std::map<std::string, std::vector<double>> samples_;
};

}  // namespace witan
