// What a check found: two sides, how far apart they are, and how far they may be.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace witan {

struct CheckResult {
  std::string check;          // "gradients": the name for --check and --json
  std::string variant;        // "EP 2, float64"; empty where there is only one
  double error = 0.0;         // of what agrees worst; 0: the same bits
  double tolerance = 0.0;     // 0: nothing but the same bits will do
  std::string worst;          // what agrees worst: a tensor, "loss", ...
  std::int64_t compared = 0;  // numbers
  double seconds = 0.0;
  std::string skipped;  // why nothing was compared; empty: something was
  std::string failure;  // what went wrong before anything could be compared
  std::string note;     // what is different from the config in this check alone

  bool passed() const { return failure.empty() && (!skipped.empty() || error <= tolerance); }
  // Decimal digits that agree; 16 for the same bits.
  double digits() const;
};

bool all_passed(const std::vector<CheckResult>& results);

// One line for people.
std::string result_line(const CheckResult& result);

}  // namespace witan
