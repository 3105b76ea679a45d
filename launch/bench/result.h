// What `witan bench` found: one line per measured thing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/bench/spread.h"

namespace witan {

// A figure of merit without unit: a share of a limit, or a speed against another one.
struct Ratio {
  std::string of;  // "of peak", "against float32"
  double value = 0.0;
  std::optional<double> bar = std::nullopt;  // what it should reach
  bool at_most = false;                      // the bar is an upper one
  bool holds() const { return !bar || (at_most ? value <= *bar : value >= *bar); }
};

struct BenchResult {
  std::string section;  // "layer"
  std::string subject;  // "4096 tokens, d 512, ff 1024, 8 experts top-2, float32"
  std::string what;     // "forward"; section, subject and what together are unique
  Spread seconds;       // of the slowest rank
  double flop = 0.0;    // of all ranks; 0: not what it is about
  double bytes = 0.0;   // moved by all ranks; 0: not counted
  double tokens = 0.0;  // that the time is for; 0: not counted
  std::vector<Ratio> ratios = {};

  double gflops() const { return flop / seconds.median * 1e-9; }
  double tokens_per_second() const { return tokens / seconds.median; }
  double gigabytes_per_second() const { return bytes / seconds.median * 1e-9; }
};

// A line for each, below its subject.
std::string text_table(const std::vector<BenchResult>& results);

}  // namespace witan
