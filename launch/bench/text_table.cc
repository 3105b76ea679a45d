#include <algorithm>
#include <array>
#include <cstdio>

#include "launch/bench/result.h"

namespace witan {
namespace {

template <class... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

std::string rate_of(const BenchResult& result) {
  if (result.flop > 0.0) return format("%.1f GFLOP/s", result.gflops());
  if (result.bytes > 0.0) return format("%.1f GB/s", result.gigabytes_per_second());
  return "";
}

// A phase that hardly counts is in the JSON file only.
bool is_small_phase(const BenchResult& result) {
  constexpr double kSmall = 0.005;
  return result.what.rfind("phase: ", 0) == 0 && result.ratios.front().value < kSmall;
}

std::string ratios_of(const BenchResult& result) {
  std::string text;
  for (const Ratio& ratio : result.ratios) {
    text += (text.empty() ? "" : ", ") + format("%.2f ", ratio.value) + ratio.of;
    if (!ratio.bar) continue;
    text += format(" (%s %.2f%s)", ratio.at_most ? "at most" : "bar", *ratio.bar,
                   ratio.holds() ? "" : ", missed");
  }
  return text;
}

}  // namespace

std::string text_table(const std::vector<BenchResult>& results) {
  std::string text, subject;
  for (const BenchResult& result : results) {
    if (is_small_phase(result)) continue;
    if (result.subject != subject) text += result.section + ": " + result.subject + "\n";
    subject = result.subject;
    text += format("  %-30s %10.3f ms  %5.1f%% %16s %10s  ", result.what.c_str(),
                   result.seconds.median * 1e3,
                   (result.seconds.high - result.seconds.low) / result.seconds.median * 100.0,
                   rate_of(result).c_str(),
                   result.bytes > 0.0 ? format("%.1f MB", result.bytes * 1e-6).c_str() : "");
    if (result.tokens > 0.0) text += format("%.0f tokens/s, ", result.tokens_per_second());
    text += ratios_of(result) + "\n";
  }
  return text;
}

}  // namespace witan
