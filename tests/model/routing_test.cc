// What every registered router must hold, over random shapes, against a plain reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "core/model/moe_layer.h"
#include "core/model/router.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

struct Routed {
  std::vector<double> z, s;
  std::vector<std::int32_t> indices;
  std::vector<double> weights;
};

struct RouterCase {
  std::int64_t tokens, experts, width;
  bool bias, expert_bias;
  configs::RouterConfig config;
};

std::string describe(const RouterCase& c) {
  return std::to_string(c.tokens) + " tokens, " + std::to_string(c.experts) + " experts, bias " +
         std::to_string(c.bias) + ", expert bias " + std::to_string(c.expert_bias) + ", " +
         c.config.ShortDebugString();
}

// Scores of a few distinct values, so that ties are common.
std::vector<double> coarse(std::int64_t count, std::uint64_t seed) {
  std::vector<double> values = normal_values(count, seed);
  for (double& value : values) value = std::round(value);
  return values;
}

Routed route(const RouterCase& c, std::uint64_t seed, std::vector<double>& expert_bias) {
  std::vector<double> x = coarse(c.tokens * c.width, seed);
  std::vector<double> weight = coarse(c.experts * c.width, seed + 1);
  std::vector<double> bias = coarse(c.experts, seed + 2);
  expert_bias = normal_values(c.experts, seed + 3, 0.3);
  RouterParams params;
  params.weight = view(weight, {c.experts, c.width});
  if (c.bias) params.bias = view(bias, {c.experts});
  if (c.expert_bias) params.expert_bias = view(expert_bias, {c.experts});
  if (!c.expert_bias) std::fill(expert_bias.begin(), expert_bias.end(), 0.0);

  const std::unique_ptr<Router> router = make_router(c.config);
  Arena arena, choice;
  RouterSaved saved;
  router->forward({}, params, view(x, {c.tokens, c.width}), arena, choice, false, nullptr, 0, {},
                  saved);
  Routed routed{copy_of(saved.z), copy_of(saved.s), {}, copy_of(saved.weights)};
  const auto* index = saved.indices.as<std::int32_t>();
  routed.indices.assign(index, index + saved.indices.size());
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    for (std::int64_t e = 0; e < c.experts; ++e) {
      double z = c.bias ? bias[static_cast<std::size_t>(e)] : 0.0;
      for (std::int64_t i = 0; i < c.width; ++i) {
        z += x[static_cast<std::size_t>(t * c.width + i)] *
             weight[static_cast<std::size_t>(e * c.width + i)];
      }
      EXPECT_DOUBLE_EQ(routed.z[static_cast<std::size_t>(t * c.experts + e)], z);
    }
  }
  return routed;
}

// moe_math: scores, weights from the chosen scores without the expert bias.
void check_token(const RouterCase& c, const double* z, const double* s, const std::int32_t* chosen,
                 const double* weights, std::int64_t top_k, const std::vector<double>& bias) {
  const auto experts = static_cast<std::size_t>(c.experts);
  double total = 0.0;
  for (std::size_t e = 0; e < experts; ++e) total += std::exp(z[e]);
  for (std::size_t e = 0; e < experts; ++e) {
    const double expected = c.config.score() == configs::RouterConfig::SOFTMAX
                                ? std::exp(z[e]) / total
                                : 1.0 / (1.0 + std::exp(-z[e]));
    ASSERT_NEAR(s[e], expected, 1e-13);
  }
  std::set<std::int32_t> distinct(chosen, chosen + top_k);
  ASSERT_EQ(static_cast<std::int64_t>(distinct.size()), top_k) << "an expert is chosen twice";

  double sum = 1e-20;
  for (std::int64_t j = 0; j < top_k; ++j) sum += s[chosen[j]];
  for (std::int64_t j = 0; j < top_k; ++j) {
    double expected = s[chosen[j]] * c.config.routed_scaling_factor();
    if (c.config.weights() == configs::RouterConfig::RENORMALIZED) expected /= sum;
    ASSERT_NEAR(weights[j], expected, 1e-13 * (1.0 + expected));
  }

  if (c.config.selection_case() != configs::RouterConfig::kTopK) return;
  std::vector<std::int32_t> order(experts);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
    return s[i] + bias[i] > s[j] + bias[j];
  });
  order.resize(static_cast<std::size_t>(top_k));
  ASSERT_EQ(std::vector<std::int32_t>(chosen, chosen + top_k), order)
      << "largest score + bias first, ties to the lower index";
}

TEST(Routing, ChoicesAndWeightsAreAsDefinedOverRandomShapes) {
  const Random random(3, "shapes");
  std::uint64_t draw = 0;
  const auto between = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(
                     random.below(draw++, static_cast<std::uint64_t>(high - low + 1)));
  };
  for (const RouterEntry& entry : registered_routers()) {
    for (int trial = 0; trial < 60; ++trial) {
      RouterCase c;
      c.tokens = between(0, 40);
      c.experts = between(6, 70);
      c.width = between(1, 5);
      c.bias = between(0, 1) == 1;
      c.expert_bias = between(0, 1) == 1;
      ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(entry.example, &c.config));
      if (c.config.has_top_k()) c.config.mutable_top_k()->set_k(between(1, c.experts));
      c.config.set_score(between(0, 1) == 1 ? configs::RouterConfig::SOFTMAX
                                            : configs::RouterConfig::SIGMOID);
      c.config.set_weights(between(0, 1) == 1 ? configs::RouterConfig::RENORMALIZED
                                              : configs::RouterConfig::AS_IS);
      c.config.set_routed_scaling_factor(static_cast<double>(between(1, 3)));
      SCOPED_TRACE(describe(c));
      std::vector<double> bias;
      const Routed routed = route(c, static_cast<std::uint64_t>(10 * trial), bias);
      const std::int64_t top_k = make_router(c.config)->top_k();
      ASSERT_EQ(static_cast<std::int64_t>(routed.indices.size()), c.tokens * top_k);
      for (std::int64_t t = 0; t < c.tokens; ++t) {
        ASSERT_NO_FATAL_FAILURE(check_token(
            c, routed.z.data() + t * c.experts, routed.s.data() + t * c.experts,
            routed.indices.data() + t * top_k, routed.weights.data() + t * top_k, top_k, bias));
      }
    }
  }
}

// Takes the place of the router: every token to the same experts.
class Collapse final : public RoutingHook {
 public:
  void on_route(int, const Batch&, const TensorView& indices, std::int64_t) override {
    auto* index = indices.as<std::int32_t>();
    for (std::int64_t i = 0; i < indices.size(); ++i) {
      index[i] = static_cast<std::int32_t>(i % indices.cols());
    }
  }
};

TEST(Routing, CountsAddUpAlsoWhenExpertsGetNothing) {
  Model model(
      model_config("vocab_size: 5 d_model: 6 layers: 1 attention { heads: 1 } moe { experts: 6 "
                   "d_ff: 5 router { top_k { k: 2 } } }"));
  Collapse collapse;
  for (RoutingHook* hook :
       {static_cast<RoutingHook*>(nullptr), static_cast<RoutingHook*>(&collapse)}) {
    model.context.hook = hook;
    MoeLayer layer(model.config, model.params, 0, 2);
    const TokenBatch tokens(3, 5, 5);
    std::vector<double> x = normal_values(15 * 6, 1), y(x.size()), dx(x.size());
    const Shape shape{15, 6};
    MoeLayer::Saved saved;
    model.arenas.reset();
    layer.forward(model.context, tokens.batch, view(x, shape), view(y, shape), saved);
    layer.backward(model.context, tokens.batch, view(x, shape), view(x, shape), saved,
                   view(dx, shape), 1.0);
    const std::vector<std::int64_t>& counts = layer.stats().counts;  // [tags, experts]
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}), 15 * 2);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.begin() + 6, std::int64_t{0}), 10 * 2)
        << "sequences 0 and 2 carry tag 0";
    EXPECT_EQ(layer.stats().tokens, 15);
    if (hook == nullptr) continue;
    EXPECT_EQ(counts, (std::vector<std::int64_t>{10, 10, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0}));
    const std::vector<double> gradient = copy_of(model.params.grad("layers.0.moe.experts.down"));
    const std::size_t used = gradient.size() / 6 * 2;
    EXPECT_TRUE(std::all_of(gradient.begin() + static_cast<std::ptrdiff_t>(used), gradient.end(),
                            [](double g) { return std::isfinite(g); }));
  }
}

}  // namespace
}  // namespace witan::test
