#include "launch/verify/check_result.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace witan {
namespace {

constexpr double kDigitsOfDouble = 16.0;

std::string agreement(const CheckResult& r) {
  if (r.error == 0.0) return "same bits";
  char text[64];
  std::snprintf(text, sizeof text, "%.1f digits", r.digits());
  return text;
}

std::string demand(const CheckResult& r) {
  if (r.tolerance == 0.0) return "same bits";
  char text[64];
  std::snprintf(text, sizeof text, "%.1f digits", -std::log10(r.tolerance));
  return text;
}

}  // namespace

double CheckResult::digits() const {
  if (error == 0.0) return kDigitsOfDouble;
  return std::clamp(-std::log10(error), 0.0, kDigitsOfDouble);
}

bool all_passed(const std::vector<CheckResult>& results) {
  return std::all_of(results.begin(), results.end(),
                     [](const CheckResult& r) { return r.passed(); });
}

std::string result_line(const CheckResult& r) {
  const std::string name = r.check + (r.variant.empty() ? "" : ", " + r.variant);
  char text[512];
  if (!r.failure.empty()) {
    std::snprintf(text, sizeof text, "%-8s %-60s ", "FAILED", name.c_str());
    return text + r.failure;
  }
  if (!r.skipped.empty()) {
    std::snprintf(text, sizeof text, "%-8s %-60s ", "skipped", name.c_str());
    return text + r.skipped;
  }
  const std::string worst = r.error > 0.0 ? ", worst: " + r.worst : "";
  std::snprintf(text, sizeof text, "%-8s %-60s agrees to %-11s (needs %s)%s",
                r.passed() ? "ok" : "FAILED", name.c_str(), agreement(r).c_str(), demand(r).c_str(),
                worst.c_str());
  return text + (r.note.empty() ? "" : "; " + r.note);
}

}  // namespace witan
