#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/ops/topk.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_case.h"

namespace witan {
namespace {

using ops::RouteWeights;
using ops::Score;
using test::Values;

// A router's arithmetic from logits to weights and back. The choice is fixed once, as selection
// has no gradient.
struct RouterCase {
  Score score;
  RouteWeights kind;
  std::int64_t tokens;
  std::int64_t experts;
  std::int64_t top_k;
  double scale = 1.0;
  bool extra = false;         // a gradient with respect to the scores
  double z_loss_scale = 0.0;  // of sum over tokens of lse^2 / 2

  Values z = test::random_normal(tokens * experts, 1, 2.0);
  Values bias = test::random_normal(experts, 2, 0.1);
  Values projection = test::random_normal(tokens * top_k, 3);
  Values ds_extra = test::random_normal(extra ? tokens * experts : 0, 4);
  Values coefficient = test::random_normal(experts, 5);

  struct Forward {
    Tensor z, s, lse, indices, weights;
  };
  Forward forward(DType dtype) const {
    Forward f = {test::tensor_of(z, {tokens, experts}, dtype),
                 test::unwritten({tokens, experts}, dtype), test::unwritten({tokens}, dtype),
                 Tensor({tokens, top_k}, DType::kInt32), test::unwritten({tokens, top_k}, dtype)};
    ops::router_score({}, score, f.z, f.s, f.lse);
    ops::topk({}, f.s, test::tensor_of(bias, {experts}, dtype), f.indices);
    ops::route_weights({}, kind, scale, f.s, f.indices, f.weights);
    return f;
  }

  // What router_backward differentiates.
  double loss() const {
    const Forward f = forward(DType::kFloat64);
    double sum = test::project(test::values_of(f.weights), projection);
    if (extra) sum += test::project(test::values_of(f.s), ds_extra);
    for (double lse : test::values_of(f.lse)) sum += z_loss_scale * lse * lse / 2.0;
    return sum;
  }

  // sum_i coefficient[i] * column sum of p.
  double probability_loss() const {
    const Forward f = forward(DType::kFloat64);
    const Tensor p_sum = test::unwritten({experts}, DType::kFloat64);
    ops::router_probability_sums({}, score, f.s, p_sum);
    return test::project(test::values_of(p_sum), coefficient);
  }

  test::Outputs run(DType dtype) const {
    const Forward f = forward(dtype);
    const Tensor dweights = test::tensor_of(projection, {tokens, top_k}, dtype);
    const Tensor more = extra ? test::tensor_of(ds_extra, {tokens, experts}, dtype) : Tensor();
    const Tensor dz = test::unwritten({tokens, experts}, dtype);
    ops::router_backward({}, score, kind, scale, f.z, f.s, f.lse, f.indices, f.weights, dweights,
                         more, z_loss_scale, dz);
    const Tensor p_sum = test::unwritten({experts}, dtype);
    ops::router_probability_sums({}, score, f.s, p_sum);
    const Tensor ds = test::tensor_of(Values(z.size(), 0.0), {tokens, experts}, dtype);
    ops::router_probability_backward({}, score, f.s, test::tensor_of(coefficient, {experts}, dtype),
                                     ds);
    return {{"s", test::values_of(f.s)},
            {"lse", test::values_of(f.lse)},
            {"weights", test::values_of(f.weights)},
            {"dz", test::values_of(dz)},
            {"p_sum", test::values_of(p_sum)},
            {"ds", test::values_of(ds)}};
  }

  // The gradient of probability_loss with respect to the logits.
  Values probability_gradient() const {
    const Forward f = forward(DType::kFloat64);
    const Tensor ds = test::tensor_of(Values(z.size(), 0.0), {tokens, experts}, DType::kFloat64);
    ops::router_probability_backward({}, score, f.s,
                                     test::tensor_of(coefficient, {experts}, DType::kFloat64), ds);
    const Tensor none =
        test::tensor_of(Values(projection.size(), 0.0), {tokens, top_k}, DType::kFloat64);
    const Tensor dz = test::unwritten({tokens, experts}, DType::kFloat64);
    ops::router_backward({}, score, kind, scale, f.z, f.s, f.lse, f.indices, f.weights, none, ds,
                         0.0, dz);
    return test::values_of(dz);
  }
};

std::vector<RouterCase> cases() {
  std::vector<RouterCase> all;
  for (Score score : {Score::kSoftmax, Score::kSigmoid}) {
    for (RouteWeights kind : {RouteWeights::kAsIs, RouteWeights::kRenormalized}) {
      all.push_back({score, kind, 0, 3, 1});
      all.push_back({score, kind, 1, 1, 1});
      all.push_back({score, kind, 4, 5, 2});
      all.push_back({score, kind, 7, 19, 3, 2.5, true, 0.3});
    }
  }
  return all;
}

TEST(RouterOps, BackwardMatchesCentralDifferences) {
  for (RouterCase c : cases()) {
    test::expect_gradient("dz", c.z, c.run(DType::kFloat64)[3].values, [&] { return c.loss(); });
    test::expect_gradient("dz of p", c.z, c.probability_gradient(),
                          [&] { return c.probability_loss(); });
  }
}

TEST(RouterOps, EveryLevelMatchesFloat64) {
  std::vector<RouterCase> all = cases();
  all.push_back({Score::kSoftmax, RouteWeights::kRenormalized, 900, 8, 2});
  all.push_back({Score::kSigmoid, RouteWeights::kRenormalized, 300, 67, 6, 2.5, true, 0.1});
  for (const RouterCase& c : all) {
    test::check_op([&](DType dtype) { return c.run(dtype); }, test::kFloat32RowTolerance);
  }
}

TEST(RouterOps, SigmoidSurvivesVeryNegativeLogits) {
  for (CpuIsa isa : test::executable_isas()) {
    SCOPED_TRACE(name_of(isa));
    const test::ScopedIsa level(isa);
    for (double logit : {-40.0, -80.0, -100.0, -1e4}) {
      RouterCase c = {Score::kSigmoid, RouteWeights::kRenormalized, 2, 9, 2};
      std::fill(c.z.begin(), c.z.end(), logit);
      for (const test::Output& output : c.run(DType::kFloat32)) {
        for (double value : output.values) {
          ASSERT_TRUE(std::isfinite(value)) << output.name << " at " << logit;
        }
      }
    }
  }
}

Values topk_of(const Values& s, std::int64_t experts, std::int64_t top_k, const Values& bias,
               DType dtype) {
  const auto tokens = static_cast<std::int64_t>(s.size()) / experts;
  const Tensor indices({tokens, top_k}, DType::kInt32);
  const Tensor shift = bias.empty() ? Tensor() : test::tensor_of(bias, {experts}, dtype);
  ops::topk({}, test::tensor_of(s, {tokens, experts}, dtype), shift, indices);
  const auto* data = indices.as<std::int32_t>();
  return {data, data + tokens * top_k};
}

TEST(TopK, MatchesAStableSort) {
  for (std::int64_t experts : {1, 2, 7, 8, 33, 130}) {
    for (std::int64_t top_k : {1L, 2L, 5L, 8L, static_cast<long>(experts)}) {
      if (top_k > experts) continue;
      constexpr std::int64_t kTokens = 50;
      Values s = test::random_normal(kTokens * experts, 1);
      for (double& value : s) value = std::round(value * 2.0);  // many ties
      const Values bias = test::random_normal(experts, 2);
      for (const Values& shift : {Values(), bias}) {
        Values expected;
        for (std::int64_t t = 0; t < kTokens; ++t) {
          std::vector<int> order(static_cast<std::size_t>(experts));
          std::iota(order.begin(), order.end(), 0);
          const auto value = [&](int e) {
            const auto at = static_cast<std::size_t>(e);
            return s[static_cast<std::size_t>(t * experts) + at] +
                   (shift.empty() ? 0.0 : shift[at]);
          };
          std::stable_sort(order.begin(), order.end(),
                           [&](int a, int b) { return value(a) > value(b); });
          expected.insert(expected.end(), order.begin(), order.begin() + top_k);
        }
        for (CpuIsa isa : test::executable_isas()) {
          const test::ScopedIsa level(isa);
          ASSERT_EQ(topk_of(s, experts, top_k, shift, DType::kFloat64), expected)
              << experts << " experts, top " << top_k << ", " << name_of(isa);
        }
      }
    }
  }
}

TEST(TopK, NanNeverRepeatsOrLeavesTheRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (CpuIsa isa : test::executable_isas()) {
    const test::ScopedIsa level(isa);
    for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
      EXPECT_EQ(topk_of({nan, 1, nan, 3}, 4, 2, {}, dtype), (Values{3, 1}));
      EXPECT_EQ(topk_of({nan, nan, nan, nan}, 4, 3, {}, dtype), (Values{0, 1, 2}));
      EXPECT_EQ(topk_of({-inf, nan, 2, -inf}, 4, 4, {}, dtype), (Values{2, 0, 1, 3}));
      EXPECT_EQ(topk_of({1, 2, inf, -inf}, 4, 2, {0, 0, -inf, inf}, dtype), (Values{1, 0}));
    }
  }
}

TEST(TopK, ZeroOfEitherSignTies) {
  EXPECT_EQ(topk_of({-0.0, 0.0, -1.0}, 3, 2, {}, DType::kFloat32), (Values{0, 1}));
}

TEST(RouterOps, CountsExperts) {
  const Tensor indices = test::tensor_of(std::vector<std::int32_t>{0, 3, 3, 1, 3, 0}, {3, 2});
  const Tensor counts({5}, DType::kInt64);
  ops::count_experts({}, indices, counts);
  const auto* found = counts.as<std::int64_t>();
  EXPECT_EQ(std::vector<std::int64_t>(found, found + 5),
            (std::vector<std::int64_t>{2, 1, 0, 3, 0}));
  const Tensor few({3}, DType::kInt64);
  EXPECT_THROW(ops::count_experts({}, indices, few), Error);
}

TEST(RouterOps, RefusesMoreChoicesThanExperts) {
  const Tensor s({2, 3}, DType::kFloat32);
  const Tensor indices({2, 4}, DType::kInt32);
  EXPECT_THROW(ops::topk({}, s, {}, indices), Error);
}

}  // namespace
}  // namespace witan
