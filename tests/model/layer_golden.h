// Whole MoE layers and routings of public test suites, read from tests/model/fixtures or from the
// shared goldens they were copied from.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/model/moe_layer.h"
#include "core/ops/topk.h"
#include "tests/model/balance_golden.h"
#include "tests/model/model_case.h"

namespace witan::test {

// The w [experts, d] with w x_t = z_t for all tokens t, of least norm: x^T (x x^T)^-1 z, by
// Gaussian elimination. x [tokens, d] and z [tokens, experts]; tokens <= d.
inline std::vector<double> router_of_logits(const std::vector<double>& x,
                                            const std::vector<double>& z, std::size_t tokens) {
  const std::size_t d = x.size() / tokens, experts = z.size() / tokens;
  std::vector<std::vector<double>> rows(tokens);
  for (std::size_t i = 0; i < tokens; ++i) {
    for (std::size_t j = 0; j < tokens; ++j) {
      double product = 0.0;
      for (std::size_t c = 0; c < d; ++c) product += x[i * d + c] * x[j * d + c];
      rows[i].push_back(product);
    }
    for (std::size_t e = 0; e < experts; ++e) rows[i].push_back(z[i * experts + e]);
  }
  for (std::size_t i = 0; i < tokens; ++i) {
    const double pivot = rows[i][i];
    for (double& value : rows[i]) value /= pivot;
    for (std::size_t j = 0; j < tokens; ++j) {
      const double factor = rows[j][i];
      for (std::size_t c = 0; j != i && c < rows[j].size(); ++c) rows[j][c] -= factor * rows[i][c];
    }
  }
  std::vector<double> w(experts * d, 0.0);
  for (std::size_t i = 0; i < w.size(); ++i) {
    for (std::size_t t = 0; t < tokens; ++t) w[i] += rows[t][tokens + i / d] * x[t * d + i % d];
  }
  return w;
}

inline void set_parameter(Model& model, const std::string& name, const std::vector<double>& from) {
  const TensorView value = model.params.value("layers.0.moe." + name);
  ASSERT_EQ(static_cast<std::size_t>(value.size()), from.size()) << name;
  std::copy(from.begin(), from.end(), value.as<double>());
}

// y [tokens, d] of the layer for x.
inline std::vector<double> layer_output(Model& model, std::vector<double> x) {
  const std::int64_t width = model.config.d_model();
  const auto tokens = static_cast<std::int64_t>(x.size()) / width;
  const TokenBatch batch(1, tokens, 5);
  std::vector<double> y(x.size());
  MoeLayer layer(model.config, model.params, 0, 1);
  MoeLayer::Saved saved;
  layer.forward(model.context, batch.batch, view(x, {tokens, width}), view(y, {tokens, width}),
                saved);
  return y;
}

// ONNX Runtime's MoE operator (MoETest_Relu): top-1 of a softmax, not renormalised, biases.
inline void check_relu_top1(const nlohmann::json& golden) {
  Model model(model_config(
      "vocab_size: 5 d_model: 8 layers: 1 attention { heads: 1 } moe { experts: 4 d_ff: 16 "
      "expert_kind: RELU expert_bias_terms: true router { weights: AS_IS top_k { k: 1 } } }"));
  const std::vector<double> x = flatten(golden.at("input"));
  set_parameter(model, "router.weight",
                router_of_logits(x, flatten(golden.at("router_logits")), 4));
  set_parameter(model, "experts.up", flatten(golden.at("fc1_experts_weights")));
  set_parameter(model, "experts.down", flatten(golden.at("fc2_experts_weights")));
  set_parameter(model, "experts.up_bias", flatten(golden.at("fc1_experts_bias")));
  set_parameter(model, "experts.down_bias", flatten(golden.at("fc2_experts_bias")));
  const std::vector<double> y = layer_output(model, x);
  const std::vector<double> expected = flatten(golden.at("output"));
  ASSERT_EQ(y.size(), expected.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y[i], expected[i], golden.at("tolerance_measured").get<double>()) << i;
  }
}

// ONNX Runtime's SwiGLU (MoECpuTest_BasicSwiGLU): two experts, one per token at weight 1, up + 1;
// every weight is the same, so that every element of the output is.
inline void check_swiglu_offset(const nlohmann::json& golden) {
  Model model(model_config(
      "vocab_size: 5 d_model: 4 layers: 1 attention { heads: 1 } moe { experts: 2 d_ff: 8 "
      "swiglu { up_offset: 1 } router { top_k { k: 1 } } }"));
  const std::vector<double> x = flatten(golden.at("input"));
  set_parameter(model, "router.weight",
                router_of_logits(x, flatten(golden.at("router_logits")), 2));
  const auto weight = golden.at("all_weights").get<double>();
  set_parameter(model, "experts.gate_up", std::vector<double>(2 * 16 * 4, weight));
  set_parameter(model, "experts.down", std::vector<double>(2 * 4 * 8, weight));
  const std::vector<double> y = layer_output(model, x);
  for (std::size_t i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y[i], golden.at("expected").at(i / 4).get<double>(), 1e-6);
  }
}

// MaxText's case of DeepSeek-V3's groups: selected by the biased scores, weighed by the others.
inline void check_group_limited(const nlohmann::json& golden) {
  const nlohmann::json& example = golden.at("deepseek_group_limited");
  const auto k = example.at("k").get<std::int64_t>();
  std::vector<double> s = flatten(example.at("scores_biased"));
  const auto tokens = static_cast<std::int64_t>(example.at("scores_biased").size());
  const std::int64_t experts = static_cast<std::int64_t>(s.size()) / tokens;
  for (double& score : s) score -= 0.5;
  std::vector<double> bias(static_cast<std::size_t>(experts), 0.5);
  std::vector<std::int32_t> chosen(static_cast<std::size_t>(tokens * k));
  std::vector<double> weights(chosen.size());
  const TensorView scores = view(s, {tokens, experts});
  const TensorView indices = view_of(chosen.data(), {tokens, k});
  ops::group_topk(
      {},
      {example.at("n_group").get<std::int64_t>(), 2, example.at("topk_group").get<std::int64_t>()},
      scores, view(bias, {experts}), indices);
  ops::route_weights({}, ops::RouteWeights::kAsIs, 1.0, scores, indices,
                     view(weights, {tokens, k}));
  EXPECT_EQ(chosen, choices_of(example.at("expected_idx")));
  const std::vector<double> expected = flatten(example.at("expected_w"));
  for (std::size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(weights[i], expected[i], 1e-12);
}

}  // namespace witan::test
