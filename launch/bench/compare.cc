#include <array>
#include <cstdio>
#include <map>

#include "launch/bench/report.h"

namespace witan {
namespace {

std::string key_of(const BenchResult& result) {
  return result.section + ": " + result.subject + ": " + result.what;
}

// How much worse the first ratio got, as a factor above 1; 1 without one to compare.
double worsening(const BenchResult& before, const BenchResult& after) {
  if (before.ratios.empty() || after.ratios.empty()) return 1.0;
  const Ratio& a = before.ratios.front();
  const Ratio& b = after.ratios.front();
  if (a.of != b.of || !(a.value > 0.0) || !(b.value > 0.0)) return 1.0;
  return a.at_most ? b.value / a.value : a.value / b.value;
}

std::string line_of(const BenchResult& before, const BenchResult& after) {
  std::array<char, 512> line{};
  std::string ratio;
  if (!before.ratios.empty() && !after.ratios.empty()) {
    std::array<char, 128> text{};
    std::snprintf(text.data(), text.size(), "   %.2f -> %.2f %s", before.ratios.front().value,
                  after.ratios.front().value, after.ratios.front().of.c_str());
    ratio = text.data();
  }
  std::snprintf(line.data(), line.size(), "  %-50s %10.3f -> %10.3f ms  x %.2f%s",
                after.what.c_str(), before.seconds.median * 1e3, after.seconds.median * 1e3,
                after.seconds.median / before.seconds.median, ratio.c_str());
  return line.data();
}

// "old: ranks 1, new: ranks 2": what was measured elsewhere or otherwise.
std::string differences(const BenchReport& before, const BenchReport& after) {
  std::string text;
  for (const auto& [name, value] : after.machine) {
    const auto old = before.machine.find(name);
    const std::string then = old == before.machine.end() ? "unknown" : old->second;
    if (then != value) text += "differs: " + name + ": " + then + " -> " + value + "\n";
  }
  return text;
}

}  // namespace

BenchComparison compare(const BenchReport& old_report, const BenchReport& new_report,
                        double threshold) {
  BenchComparison comparison;
  comparison.text = differences(old_report, new_report);
  std::map<std::string, const BenchResult*> old_results;
  for (const BenchResult& result : old_report.results) old_results[key_of(result)] = &result;
  std::string subject;
  std::size_t compared = 0;
  for (const BenchResult& after : new_report.results) {
    const auto found = old_results.find(key_of(after));
    if (found == old_results.end()) continue;
    const BenchResult& before = *found->second;
    ++compared;
    const std::string heading = after.section + ": " + after.subject;
    if (heading != subject) comparison.text += heading + "\n";
    subject = heading;
    const bool has_ratio = !before.ratios.empty() && !after.ratios.empty();
    const bool slower = after.seconds.median > before.seconds.median * threshold &&
                        (!has_ratio || worsening(before, after) > threshold);
    comparison.text += line_of(before, after) + (slower ? "   SLOWER\n" : "\n");
    if (slower) comparison.slower.push_back(key_of(after));
  }
  comparison.text += std::to_string(compared) + " compared, " +
                     std::to_string(comparison.slower.size()) + " slower\n";
  return comparison;
}

}  // namespace witan
