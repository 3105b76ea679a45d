#include "optim/lr_schedule.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"
#include "core/model/expert_mask.h"

namespace witan {
namespace {

// How far step `done` of the `length` steps behind the warm-up has come: 0 in the first, 1 in the
// last. A single step is the last.
double progress(std::int64_t done, std::int64_t length) {
  if (length <= 1) return 1.0;
  return std::min(1.0, static_cast<double>(done) / static_cast<double>(length - 1));
}

// WSD: share of the fall that is done in step `step`; the last step before the fall has 0.
double fall(const configs::LrSchedule& schedule, std::int64_t step, std::int64_t steps,
            std::int64_t remaining) {
  const auto wanted =
      static_cast<std::int64_t>(std::llround(schedule.decay_share() * static_cast<double>(steps)));
  const std::int64_t length =
      std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, remaining));
  const std::int64_t done = step - (steps - length) + 1;
  return std::clamp(static_cast<double>(done) / static_cast<double>(length), 0.0, 1.0);
}

}  // namespace

double learning_rate(const configs::OptimizerConfig& optimizer, std::int64_t step,
                     std::int64_t steps) {
  WITAN_CHECK(step >= 0, "learning rate of step ", step);
  const configs::LrSchedule& schedule = optimizer.schedule();
  const std::int64_t warmup = schedule.warmup_steps();
  if (step < warmup) {
    return optimizer.lr() * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  const double low = schedule.min_ratio();
  const double t = progress(step - warmup, steps - warmup);
  switch (schedule.kind()) {
    case configs::LrSchedule::COSINE:
      return optimizer.lr() * (low + (1.0 - low) * 0.5 * (1.0 + std::cos(std::numbers::pi * t)));
    case configs::LrSchedule::LINEAR: return optimizer.lr() * (1.0 - (1.0 - low) * t);
    case configs::LrSchedule::CONSTANT: return optimizer.lr();
    case configs::LrSchedule::WSD:
      return optimizer.lr() * (1.0 - (1.0 - low) * fall(schedule, step, steps, steps - warmup));
  }
  WITAN_CHECK(false, "learning rate schedule ", static_cast<int>(schedule.kind()), " is not known");
  return 0.0;
}

double lr_factor(const configs::OptimizerConfig& optimizer, const char* tensor_name) {
  for (const configs::LrRule& rule : optimizer.rule()) {
    if (rule_matches(rule, tensor_name, 0)) return rule.factor();
  }
  return 1.0;
}

std::vector<double> lr_factors_of_experts(const configs::OptimizerConfig& optimizer,
                                          const char* tensor_name, std::int64_t experts) {
  std::vector<double> factors(static_cast<std::size_t>(experts), 1.0);
  // The first rule that matches wins: it is written last.
  for (int i = optimizer.rule_size() - 1; i >= 0; --i) {
    const configs::LrRule& rule = optimizer.rule(i);
    if (!rule_matches(rule, tensor_name, experts)) continue;
    if (!rule.has_experts()) {
      std::fill(factors.begin(), factors.end(), rule.factor());
      continue;
    }
    for (const std::int32_t e : parse_experts(rule.experts(), experts)) {
      factors[static_cast<std::size_t>(e)] = rule.factor();
    }
  }
  return factors;
}

bool rule_matches(const configs::LrRule& rule, const char* tensor_name, std::int64_t experts) {
  if (rule.has_experts() && experts == 0) return false;
  return fnmatch(rule.pattern().c_str(), tensor_name, 0) == 0;
}

}  // namespace witan
