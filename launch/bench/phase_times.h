// Where the time of something goes, from the scopes that it passes (core/base/profile.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/profile.h"
#include "launch/bench/spread.h"

namespace witan {

class PhaseTimes {
 public:
  // Runs f() with recording on; adds up, by name, the time that this rank's threads spent in each
  // scope and in no scope inside it.
  template <class F>
  void record(const F& f) {
    start_profiling(kCapacity);
    f();
    stop_profiling();
    collect();
  }
  struct Phase {
    std::string name;
    Spread seconds;
    double share = 0.0;  // of all phases together
  };
  // In the order in which they first ended.
  std::vector<Phase> phases() const;

 private:
  static constexpr std::size_t kCapacity = 1 << 14;
  void collect();

  std::vector<std::string> order_;
  std::map<std::string, std::vector<double>> seconds_;
};

}  // namespace witan
