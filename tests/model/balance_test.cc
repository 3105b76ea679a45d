// Balancing: published cases, the loss of balanced routing, the expert bias over steps.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/model/balance/balancer.h"
#include "tests/model/balance_golden.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

std::string fixture(const std::string& name) {
  return std::string(WITAN_SOURCE_DIR) + "/tests/model/fixtures/" + name;
}

TEST(Balance, SwitchAndZLossOfPublishedCases) {
  check_switch_losses(read_json(fixture("switch_losses.json")));
}

TEST(Balance, ImportanceAndLoadOfPublishedCases) {
  check_vmoe_losses(read_json(fixture("vmoe_losses.json")));
}

TEST(Balance, ExpertBiasOfAPublishedCase) {
  check_bias_update(read_json(fixture("maxtext_bias_update.json")));
}

TEST(Balance, EvenRoutingGivesTheCoefficient) {
  const std::vector<double> s(4 * 4, 0.25);
  for (const char* scope : {"MICRO_BATCH", "SEQUENCE"}) {
    EXPECT_DOUBLE_EQ(
        balance_loss(std::string("switch_aux { coefficient: 0.3 scope: ") + scope + " }", {}, s,
                     {0, 1, 2, 3}, 1, 4),
        0.3);
  }
}

std::unique_ptr<Balancer> expert_bias(const std::string& fields) {
  configs::BalancerConfig config;
  EXPECT_TRUE(
      google::protobuf::TextFormat::ParseFromString("expert_bias { " + fields + " }", &config));
  return make_balancer(config);
}

TEST(ExpertBias, MovesByTheCountsSinceTheLastUpdate) {
  const auto balancer = expert_bias("rate: 0.5 interval: 3");
  std::vector<double> bias = {0.0, 0.0, 0.0};
  const TensorView b = view(bias, {3});
  // By itself the second step would move expert 0 up.
  const std::vector<std::vector<std::int64_t>> counts = {{9, 2, 1}, {0, 6, 6}, {4, 4, 4}};
  for (int step = 0; step < 3; ++step) {
    EXPECT_EQ(bias, (std::vector<double>{0.0, 0.0, 0.0})) << "before step " << step;
    balancer->after_step(step, 10, counts[static_cast<std::size_t>(step)], {}, b);
  }
  EXPECT_EQ(bias, (std::vector<double>{-0.5, 0.0, 0.5}));  // 13, 12, 11 of a mean of 12
  ASSERT_NE(balancer->state(), nullptr);
  EXPECT_EQ(*balancer->state(), (std::vector<std::int64_t>{0, 0, 0}));
}

TEST(ExpertBias, ProportionalAndCentredMoves) {
  std::vector<double> bias = {1.0, 1.0, 1.0};
  const std::vector<std::int64_t> counts = {9, 2, 1};  // mean 4
  expert_bias("rate: 0.5 move: PROPORTIONAL")->after_step(0, 10, counts, {}, view(bias, {3}));
  EXPECT_EQ(bias, (std::vector<double>{1.0 - 0.625, 1.25, 1.375}));
  bias = {0.0, 0.0, 0.0};
  expert_bias("rate: 3 centred: true")->after_step(0, 10, counts, {}, view(bias, {3}));
  EXPECT_EQ(bias, (std::vector<double>{-4.0, 2.0, 2.0}));  // -3, 3, 3 less their mean
}

// One expert after the other gets everything: f of the step so far.
TEST(Balance, RunningCountsAddUpWithinAStep) {
  configs::BalancerConfig config;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "switch_aux { coefficient: 1 counts: RUNNING }", &config));
  const std::unique_ptr<Balancer> balancer = make_balancer(config);
  EXPECT_FALSE(balancer->needs_global_fractions());
  std::vector<double> s = {0.6, 0.4, 0.8, 0.2};
  std::vector<std::int32_t> any(2);
  RouterSaved router;
  router.s = view(s, {2, 2});
  router.indices = view_of(any.data(), {2, 1});
  const auto loss = [&](std::int64_t micro_batch, const std::vector<std::int64_t>& counts) {
    Arena scratch;
    RouterGradient gradient;
    const BalanceInput input{router, ops::Score::kSoftmax, 1, 2, 2, 1, 0.0, counts, {},
                             1.0,    micro_batch};
    return balancer->backward({}, input, gradient, scratch) / 2.0;
  };
  for (int step = 0; step < 2; ++step) {
    EXPECT_DOUBLE_EQ(loss(0, {2, 0}), 2 * 0.7);
    EXPECT_DOUBLE_EQ(loss(1, {0, 2}), 2 * (0.5 * 0.7 + 0.5 * 0.3));
    EXPECT_DOUBLE_EQ(loss(2, {0, 2}), 2 * (0.7 / 3 + 0.3 * 2 / 3));
  }
}

// f from the first of two choices, as in GShard and Tutel.
TEST(Balance, FirstChoicesOnly) {
  configs::BalancerConfig config;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "switch_aux { coefficient: 1 scope: MICRO_BATCH load: FIRST_CHOICE }", &config));
  std::vector<double> s = {0.5, 0.4, 0.1, 0.2, 0.7, 0.1, 0.6, 0.1, 0.3};
  std::vector<std::int32_t> choices = {0, 1, 1, 0, 0, 2};
  const std::vector<std::int64_t> counts = {3, 2, 1};
  RouterSaved router;
  router.s = view(s, {3, 3});
  router.indices = view_of(choices.data(), {3, 2});
  Arena scratch;
  RouterGradient gradient;
  const BalanceInput input{router, ops::Score::kSoftmax, 1, 3, 3, 1, 0.0, counts, {}, 1.0};
  const double loss = make_balancer(config)->backward({}, input, gradient, scratch) / 3.0;
  EXPECT_NEAR(loss, 3.0 * (2.0 / 3 * 1.3 / 3 + 1.0 / 3 * 1.2 / 3), 1e-15);
}

// Two layers, one expert each per token: Hugging Face's loss takes f and P over the tokens of both.
TEST(Balance, PooledLayersAreHuggingFaces) {
  configs::BalancerConfig config;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "switch_aux { coefficient: 1 scope: MICRO_BATCH pool_layers: true }", &config));
  std::vector<std::vector<double>> s = {{0.6, 0.4, 0.8, 0.2}, {0.1, 0.9, 0.7, 0.3}};
  std::vector<std::int32_t> any(2);
  const std::vector<std::int64_t> own = {2, 0}, pooled = {3, 1};
  double sum = 0.0;
  for (std::vector<double>& scores : s) {
    RouterSaved router;
    router.s = view(scores, {2, 2});
    router.indices = view_of(any.data(), {2, 1});
    Arena scratch;
    RouterGradient gradient;
    const BalanceInput input{router, ops::Score::kSoftmax, 1, 2, 2, 2, 0.0, own, {}, 1.0, 0,
                             pooled};
    sum += make_balancer(config)->backward({}, input, gradient, scratch) / 2.0;
  }
  const double p = (0.6 + 0.8 + 0.1 + 0.7) / 4;
  EXPECT_NEAR(sum, 2.0 * (0.75 * p + 0.25 * (1.0 - p)), 1e-15);
}

TEST(Balance, CoefficientsFollowTheirSchedule) {
  configs::CoefficientSchedule schedule;
  schedule.set_to(0.2);
  const auto at = [&](configs::CoefficientSchedule::Kind kind, double progress) {
    schedule.set_kind(kind);
    return scheduled(10.0, schedule, progress);
  };
  using configs::CoefficientSchedule;
  for (const double progress : {0.0, 0.5, 1.0}) {
    EXPECT_DOUBLE_EQ(at(CoefficientSchedule::CONSTANT, progress), 10.0);
    EXPECT_DOUBLE_EQ(at(CoefficientSchedule::LINEAR, progress), 10.0 - 8.0 * progress);
    EXPECT_NEAR(at(CoefficientSchedule::COSINE, progress), 10.0 - 8.0 * progress, 1e-14);
    EXPECT_DOUBLE_EQ(at(CoefficientSchedule::STEP, progress), progress < 0.5 ? 10.0 : 2.0);
  }
}

TEST(ExpertBias, ScheduleFallsToZeroAtTheLastStep) {
  constexpr std::int64_t kSteps = 5;
  const std::vector<std::int64_t> counts = {3, 1};
  for (const char* schedule : {"LINEAR", "COSINE", "CONSTANT"}) {
    const auto balancer = expert_bias(std::string("rate: 1 schedule: ") + schedule);
    std::vector<double> bias = {0.0, 0.0};
    std::vector<double> moves;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      const double before = bias[1];
      balancer->after_step(step, kSteps, counts, {}, view(bias, {2}));
      moves.push_back(bias[1] - before);
      EXPECT_DOUBLE_EQ(bias[0], -bias[1]);
    }
    EXPECT_DOUBLE_EQ(moves.front(), 1.0);
    EXPECT_NEAR(moves[2], std::string(schedule) == "CONSTANT" ? 1.0 : 0.5, 1e-15);
    EXPECT_NEAR(moves.back(), std::string(schedule) == "CONSTANT" ? 1.0 : 0.0, 1e-15);
  }
}

// Counts whose differences from their mean are lost in floating point.
TEST(ExpertBias, TheSignIsTakenInIntegers) {
  constexpr std::int64_t kMany = (std::int64_t{1} << 53) / 4;
  std::vector<double> bias = {0.0, 0.0, 0.0};
  update_expert_bias({}, 1.0, std::vector<std::int64_t>{kMany, kMany, kMany + 1}, {},
                     view(bias, {3}));
  EXPECT_EQ(bias, (std::vector<double>{1.0, 1.0, -1.0}));
}

}  // namespace
}  // namespace witan::test
