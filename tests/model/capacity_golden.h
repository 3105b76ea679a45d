// DeepSpeed's cases of top-k routing with a capacity (tests/unit/v1/moe/test_moe.py).
#pragma once

#include <array>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "core/model/capacity.h"
#include "core/ops/topk.h"
#include "tests/model/balance_golden.h"
#include "tests/model/model_case.h"

namespace witan::test {

// The kept choices of s [tokens, experts], top-k, weighted by the scores themselves.
inline std::vector<std::int32_t> kept_choices(const std::string& capacity, std::int64_t experts,
                                              std::int64_t k, std::vector<double> s) {
  configs::MoeConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "experts: " + std::to_string(experts) + " capacity { " + capacity + " }", &config));
  const std::int64_t tokens = static_cast<std::int64_t>(s.size()) / experts;
  std::vector<std::int32_t> chosen(static_cast<std::size_t>(tokens * k)), out(chosen.size());
  std::vector<double> weights(chosen.size());
  const TensorView scores = view(s, {tokens, experts});
  const TensorView indices = view_of(chosen.data(), {tokens, k});
  ops::topk({}, scores, {}, indices);
  ops::route_weights({}, ops::RouteWeights::kAsIs, 1.0, scores, indices,
                     view(weights, {tokens, k}));
  const Capacity limit(config, k);
  limit.drop({}, indices, view(weights, {tokens, k}), scores, true,
             view_of(out.data(), {tokens, k}));
  return out;
}

inline std::vector<double> softmax_rows(std::vector<double> x, std::size_t columns) {
  for (std::size_t row = 0; row < x.size(); row += columns) {
    double sum = 0.0;
    for (std::size_t i = row; i < row + columns; ++i) sum += x[i] = std::exp(x[i]);
    for (std::size_t i = row; i < row + columns; ++i) x[i] /= sum;
  }
  return x;
}

// The golden lists [token, expert, slot] of the pairs that stay.
inline void check_deepspeed_topk(const nlohmann::json& golden) {
  using Pairs = std::set<std::array<std::int64_t, 2>>;
  for (const nlohmann::json& example : golden.at("cases")) {
    const auto k = example.at("k").get<std::int64_t>();
    const auto experts = static_cast<std::int64_t>(example.at("logits").at(0).size());
    const std::vector<double> s =
        softmax_rows(flatten(example.at("logits")), static_cast<std::size_t>(experts));
    std::string factor = "1000";
    if (!example.at("capacity").is_null()) {
      factor = std::to_string(example.at("capacity").get<double>() *
                              static_cast<double>(experts * experts) /
                              static_cast<double>(k * static_cast<std::int64_t>(s.size())));
    }
    for (const auto& [key, policy] : {std::pair("probs", "PROBABILITY"),
                                      {"position", "TOKEN_MAJOR"},
                                      {"no_drop", "TOKEN_MAJOR"}}) {
      if (!example.contains(key)) continue;
      Pairs expected, found;
      for (const nlohmann::json& pair : example.at(key)) {
        expected.insert({pair.at(0).get<std::int64_t>(), pair.at(1).get<std::int64_t>()});
      }
      const std::vector<std::int32_t> out =
          kept_choices("factor: " + factor + " policy: " + policy, experts, k, s);
      for (std::size_t i = 0; i < out.size(); ++i) {
        if (out[i] != ops::kNoChoice) found.insert({static_cast<std::int64_t>(i) / k, out[i]});
      }
      EXPECT_EQ(found, expected) << key << " of " << example.dump();
    }
  }
}

}  // namespace witan::test
