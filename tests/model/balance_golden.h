// Cases of public test suites for balancing losses and the expert bias, read from
// tests/model/fixtures or from the shared goldens they were copied from.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/model/balance/balancer.h"
#include "tests/model/model_case.h"

namespace witan::test {

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return nlohmann::json::parse(file);
}

inline std::vector<double> flatten(const nlohmann::json& array) {
  std::vector<double> values;
  for (const nlohmann::json& item : array) {
    const std::vector<double> part =
        item.is_array() ? flatten(item) : std::vector<double>{item.get<double>()};
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

// What a balancer makes of these scores, logits and choices: a loss summed over tokens.
inline double balance_loss(const std::string& config_text, std::vector<double> z,
                           std::vector<double> s, std::vector<std::int32_t> choice,
                           std::int64_t sequences, std::int64_t experts) {
  configs::BalancerConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(config_text, &config));
  const auto tokens = static_cast<std::int64_t>(choice.size());
  std::vector<double> lse(choice.size()), ds(s.size());
  for (std::size_t t = 0; t < lse.size() && !z.empty(); ++t) {
    double sum = 0.0;
    for (std::int64_t e = 0; e < experts; ++e) {
      sum += std::exp(z[t * static_cast<std::size_t>(experts) + static_cast<std::size_t>(e)]);
    }
    lse[t] = std::log(sum);
  }
  std::vector<std::int64_t> counts(static_cast<std::size_t>(experts), 0);
  for (const std::int32_t e : choice) ++counts[static_cast<std::size_t>(e)];
  RouterSaved router;
  router.s = view(s, {tokens, experts});
  router.lse = view(lse, {tokens});
  router.indices = view_of(choice.data(), {tokens, 1});
  const BalanceInput input{
      router, ops::Score::kSoftmax, sequences, tokens / sequences, experts, 1, 0.0, counts, {},
      1.0};
  RouterGradient gradient;
  gradient.ds = view(ds, {tokens, experts});
  Arena scratch;
  return make_balancer(config)->backward({}, input, gradient, scratch) /
         static_cast<double>(tokens);
}

inline std::vector<std::int32_t> choices_of(const nlohmann::json& array) {
  std::vector<std::int32_t> choice;
  for (const double value : flatten(array)) choice.push_back(static_cast<std::int32_t>(value));
  return choice;
}

// V-MoE's losses: GShard's auxiliary loss is ours with the first choices only.
inline void check_vmoe_losses(const nlohmann::json& golden) {
  constexpr double kFloat32 = 1e-6;  // in which V-MoE's numbers were computed
  const std::vector<double> gates = flatten(golden.at("gates"));
  EXPECT_NEAR(balance_loss("switch_aux { coefficient: 1 scope: MICRO_BATCH }", {}, gates,
                           {0, 2, 2, 0}, 1, 3),
              golden.at("gshard_aux").at("expected").get<double>(), 1e-12);
  EXPECT_NEAR(balance_loss("importance_cv2 { coefficient: 1 }", {}, gates, {0, 2, 2, 0}, 1, 3),
              golden.at("importance_cv2").at("expected").get<double>(), kFloat32);

  const nlohmann::json& load = golden.at("load_cv2");
  std::vector<double> clean = flatten(load.at("logits"));
  std::vector<double> z = flatten(load.at("noise"));
  std::vector<double> scale(clean.size(), load.at("noise_std").get<double>());
  for (std::size_t i = 0; i < z.size(); ++i) z[i] += clean[i];
  std::vector<std::int32_t> choices(3 * load.at("k").get<std::size_t>());
  RouterSaved router;
  const Shape shape{3, 3};
  router.s = router.z = view(z, shape);
  router.clean_z = view(clean, shape);
  router.noise_scale = view(scale, shape);
  router.indices = view_of(choices.data(), {3, load.at("k").get<std::int64_t>()});
  configs::BalancerConfig config;
  config.mutable_load_cv2()->set_coefficient(1.0);
  RouterGradient gradient;
  Arena scratch;
  const BalanceInput input{router, ops::Score::kSoftmax, 1, 3, 3, 1, 0.0, {}, {}, 1.0};
  EXPECT_NEAR(make_balancer(config)->backward({}, input, gradient, scratch) / 3.0,
              load.at("expected").get<double>(), kFloat32);
}

inline void check_switch_losses(const nlohmann::json& golden) {
  constexpr double kPrinted = 2e-6;  // seven printed digits
  const nlohmann::json& load = golden.at("load_balancing");
  EXPECT_NEAR(
      balance_loss("switch_aux { coefficient: 1 scope: MICRO_BATCH }", {},
                   flatten(load.at("router_probs")), choices_of(load.at("expert_index")), 1, 2),
      load.at("expected").get<double>(), kPrinted);
  const nlohmann::json& z_loss = golden.at("z_loss");
  const std::vector<double> logits = flatten(z_loss.at("logits"));
  const std::vector<std::int32_t> any(logits.size() / 4, 0);
  EXPECT_NEAR(balance_loss("z_loss { coefficient: 1 }", logits, logits, any, 2, 4),
              z_loss.at("expected").get<double>(), 10 * kPrinted);

  // A router from tokens to losses. flaxformer averages the loss over its two groups of tokens,
  // which is our SEQUENCE scope.
  const nlohmann::json& whole = golden.at("router_end_to_end");
  const std::vector<double> tokens = flatten(whole.at("tokens"));
  const std::vector<double> weight = flatten(whole.at("w_hidden_by_expert"));
  std::vector<double> z, s;
  for (std::size_t t = 0; t < tokens.size() / 4; ++t) {
    for (std::size_t e = 0; e < 2; ++e) {
      double sum = 0.0;
      for (std::size_t i = 0; i < 4; ++i) sum += tokens[4 * t + i] * weight[2 * i + e];
      z.push_back(sum);
    }
    const double a = std::exp(z[2 * t]), b = std::exp(z[2 * t + 1]);
    s.push_back(a / (a + b));
    s.push_back(b / (a + b));
  }
  const std::vector<std::int32_t> choice = choices_of(whole.at("computed_top1"));
  for (std::size_t t = 0; t < choice.size(); ++t) {
    EXPECT_EQ(choice[t], s[2 * t + 1] > s[2 * t] ? 1 : 0);
  }
  EXPECT_NEAR(balance_loss("switch_aux { coefficient: 1 scope: SEQUENCE }", z, s, choice, 2, 2),
              whole.at("expected_aux").get<double>(), kPrinted);
  EXPECT_NEAR(balance_loss("z_loss { coefficient: 1 }", z, s, choice, 2, 2),
              whole.at("expected_z").get<double>(), kPrinted);
}

inline void check_bias_update(const nlohmann::json& golden) {
  const nlohmann::json& update = golden.at("bias_update");
  std::vector<std::int64_t> counts(update.at("num_experts").get<std::size_t>(), 0);
  for (const double e : flatten(update.at("top_k_indices"))) ++counts[static_cast<std::size_t>(e)];
  std::vector<double> bias(counts.size(), 0.25);
  update_expert_bias({}, update.at("rate").get<double>(), counts, {},
                     view(bias, {static_cast<std::int64_t>(bias.size())}));
  const std::vector<double> delta = flatten(update.at("expected_delta"));
  for (std::size_t e = 0; e < bias.size(); ++e) EXPECT_DOUBLE_EQ(bias[e], 0.25 + delta[e]);
}

}  // namespace witan::test
