// The JSON file of `witan bench`, and the comparison of two of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launch/bench/result.h"

namespace witan {

// What was measured where.
struct BenchReport {
  // version, cpu, gpu (where it measures one), kernels, ranks, threads (of each), nodes, precision,
  // repeat, clock
  std::map<std::string, std::string> machine;
  std::vector<BenchResult> results;
};

// "Intel(R) Xeon(R) ..."; empty if the system does not say.
std::string cpu_name();

std::string to_json(const BenchReport& report);
// UserError for a file that is not such a report.
BenchReport read_report(const std::string& path);

struct BenchComparison {
  std::string text;
  std::vector<std::string> slower;  // what got slower by more than the threshold
};
// By section, subject and what. Slower: the time grew by more than the factor `threshold` (above
// 1), and so did what the first ratio says, where there is one: a machine that was busy during one
// of the runs makes everything slower, but hardly a share of its peak.
BenchComparison compare(const BenchReport& old_report, const BenchReport& new_report,
                        double threshold);

}  // namespace witan
