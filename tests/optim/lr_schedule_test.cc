#include "optim/lr_schedule.h"

#include <gtest/gtest.h>

#include <vector>

namespace witan {
namespace {

using configs::LrSchedule;

configs::OptimizerConfig with(LrSchedule::Kind kind, std::int64_t warmup, double min_ratio) {
  configs::OptimizerConfig config;
  config.set_lr(2.0);
  config.mutable_schedule()->set_kind(kind);
  config.mutable_schedule()->set_warmup_steps(warmup);
  config.mutable_schedule()->set_min_ratio(min_ratio);
  return config;
}

void expect_rates(const configs::OptimizerConfig& config, const std::vector<double>& rates) {
  const auto steps = static_cast<std::int64_t>(rates.size());
  for (std::int64_t step = 0; step < steps; ++step) {
    EXPECT_NEAR(learning_rate(config, step, steps), rates[static_cast<std::size_t>(step)], 1e-15)
        << "step " << step;
  }
}

TEST(LearningRate, Constant) { expect_rates(with(LrSchedule::CONSTANT, 0, 0.1), {2, 2, 2}); }

TEST(LearningRate, WarmUpReachesThePeakInItsLastStep) {
  expect_rates(with(LrSchedule::CONSTANT, 4, 0.1), {0.5, 1, 1.5, 2, 2, 2});
}

TEST(LearningRate, LinearReachesTheMinimumInTheLastStep) {
  expect_rates(with(LrSchedule::LINEAR, 0, 0.1), {2, 1.55, 1.1, 0.65, 0.2});
  expect_rates(with(LrSchedule::LINEAR, 2, 0), {1, 2, 2, 1, 0});
}

TEST(LearningRate, Cosine) {
  // Half a cosine over five steps: 1, (1 + sqrt(1/2)) / 2, 1/2, (1 - sqrt(1/2)) / 2, 0.
  expect_rates(with(LrSchedule::COSINE, 0, 0), {2, 1.7071067811865475, 1, 0.2928932188134524, 0});
  expect_rates(with(LrSchedule::COSINE, 1, 0.5), {2, 2, 1.5, 1});
}

TEST(LearningRate, WsdFallsOverItsShareOfTheSteps) {
  configs::OptimizerConfig config = with(LrSchedule::WSD, 2, 0.1);
  config.mutable_schedule()->set_decay_share(0.3);
  expect_rates(config, {1, 2, 2, 2, 2, 2, 2, 1.4, 0.8, 0.2});
  config.mutable_schedule()->set_decay_share(1);  // no further than the warm-up
  expect_rates(config, {1, 2, 1.1, 0.2});
  config.mutable_schedule()->set_decay_share(0.01);  // at least the last step
  expect_rates(config, {1, 2, 2, 0.2});
}

TEST(LearningRate, EndsOfTheRun) {
  expect_rates(with(LrSchedule::COSINE, 3, 0.1), {2.0 / 3, 4.0 / 3, 2});  // warm-up only
  expect_rates(with(LrSchedule::COSINE, 10, 0.1), {0.2, 0.4});            // and not all of it
  expect_rates(with(LrSchedule::LINEAR, 2, 0.1), {1, 2, 0.2});            // one step after it
  EXPECT_DOUBLE_EQ(learning_rate(with(LrSchedule::COSINE, 0, 0.1), 12, 10), 0.2);
}

TEST(LearningRate, DefaultsAreThoseOfTheSchema) {
  const configs::OptimizerConfig config;  // 1e-3, cosine to a tenth
  EXPECT_DOUBLE_EQ(learning_rate(config, 0, 100), 1e-3);
  EXPECT_DOUBLE_EQ(learning_rate(config, 99, 100), 1e-4);
}

TEST(LrFactor, FirstMatchingRuleWins) {
  configs::OptimizerConfig config;
  EXPECT_EQ(lr_factor(config, "layers.0.moe.router.weight"), 1.0);
  const auto add = [&config](const char* pattern, double factor) {
    config.add_rule()->set_pattern(pattern);
    config.mutable_rule(config.rule_size() - 1)->set_factor(factor);
  };
  add("layers.*.moe.router.*", 0.1);
  add("layers.0.*", 0.0);
  add("layers.?.ffn.down", 3.0);
  EXPECT_EQ(lr_factor(config, "layers.0.moe.router.weight"), 0.1);
  EXPECT_EQ(lr_factor(config, "layers.0.ffn.down"), 0.0);
  EXPECT_EQ(lr_factor(config, "layers.1.ffn.down"), 3.0);
  EXPECT_EQ(lr_factor(config, "layers.11.ffn.down"), 1.0);
  EXPECT_EQ(lr_factor(config, "xlayers.0.ffn.down"), 1.0);
}

TEST(LrFactor, OfExpertsByTheFirstRuleThatNamesThem) {
  configs::OptimizerConfig config;
  const auto add = [&config](const char* pattern, const char* experts, double factor) {
    configs::LrRule& rule = *config.add_rule();
    rule.set_pattern(pattern);
    rule.set_factor(factor);
    if (experts != nullptr) rule.set_experts(experts);
  };
  add("*.experts.down", "1,3", 2.0);
  add("*.experts.*", "0-1", 0.0);
  add("*", nullptr, 0.5);
  using Factors = std::vector<double>;
  EXPECT_EQ(lr_factors_of_experts(config, "layers.0.moe.experts.down", 4),
            (Factors{0.0, 2.0, 0.5, 2.0}));
  EXPECT_EQ(lr_factors_of_experts(config, "layers.0.moe.experts.up", 4),
            (Factors{0.0, 0.0, 0.5, 0.5}));
  EXPECT_EQ(lr_factors_of_experts(config, "layers.0.moe.router.weight", 4),
            (Factors{0.5, 0.5, 0.5, 0.5}));
  EXPECT_EQ(lr_factor(config, "layers.0.moe.experts.down"), 0.5);  // of a whole tensor
}

}  // namespace
}  // namespace witan
