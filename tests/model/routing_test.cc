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

constexpr std::int64_t kVocab = 50;

struct RouterCase {
  std::int64_t tokens, experts, width;
  bool bias, expert_bias;
  configs::RouterConfig config;
  configs::AllowedExperts allowed;  // of the tags 0 and 1, which take turns; no tag: all

  RouterPlace place() const {
    configs::MoeConfig moe;
    moe.set_experts(experts);
    *moe.mutable_allowed_experts() = allowed;
    return {0, experts, kVocab, ExpertMask(moe)};
  }
};

std::string describe(const RouterCase& c) {
  return std::to_string(c.tokens) + " tokens, " + std::to_string(c.experts) + " experts, bias " +
         std::to_string(c.bias) + ", expert bias " + std::to_string(c.expert_bias) + ", " +
         c.config.ShortDebugString() + ", " + c.allowed.ShortDebugString();
}

bool is_allowed(const RouterCase& c, std::int64_t token, std::int64_t expert) {
  if (c.allowed.tag_size() == 0) return true;
  const std::string list = c.allowed.tag(static_cast<int>(token % 2)).experts();
  const std::vector<std::int32_t> experts = parse_experts(list, c.experts);
  return std::find(experts.begin(), experts.end(), expert) != experts.end();
}

// Scores of a few distinct values, so that ties are common.
std::vector<double> coarse(std::int64_t count, std::uint64_t seed) {
  std::vector<double> values = normal_values(count, seed);
  for (double& value : values) value = std::round(value);
  return values;
}

// Experts by descending value, ties to the lower index.
std::vector<std::int32_t> descending(const std::vector<double>& value) {
  std::vector<std::int32_t> order(value.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return value[static_cast<std::size_t>(a)] > value[static_cast<std::size_t>(b)];
  });
  return order;
}

double dot(const std::vector<double>& x, std::int64_t t, const std::vector<double>& w,
           std::int64_t row, std::int64_t width) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < width; ++i) {
    sum +=
        x[static_cast<std::size_t>(t * width + i)] * w[static_cast<std::size_t>(row * width + i)];
  }
  return sum;
}

// One token with two gates, from the definition: the groups with the largest u, of each the experts
// with the largest v, weights softmax(u over the chosen groups) softmax(v over the chosen experts),
// and the score softmax(u) softmax(v within the group). -inf where the token may not go.
void check_gates(const RouterCase& c, const std::vector<double>& u, const std::vector<double>& v,
                 const double* s, const std::int32_t* chosen, const double* weights) {
  const auto& config = c.config.hierarchical();
  const std::int64_t size = c.experts / config.n_group();
  const auto sum_exp = [](const std::vector<double>& x, const std::vector<std::int32_t>& which) {
    double sum = 0.0;
    for (const std::int32_t i : which) sum += std::exp(x[static_cast<std::size_t>(i)]);
    return sum;
  };
  std::vector<std::int32_t> every(u.size());
  std::iota(every.begin(), every.end(), 0);
  std::vector<std::int32_t> groups = descending(u);
  groups.resize(static_cast<std::size_t>(config.topk_group()));
  for (std::int32_t g = 0; g < config.n_group(); ++g) {
    std::vector<std::int32_t> members(static_cast<std::size_t>(size));
    std::iota(members.begin(), members.end(), static_cast<std::int32_t>(g * size));
    const double first = std::exp(u[static_cast<std::size_t>(g)]) / sum_exp(u, every);
    for (const std::int32_t e : members) {
      const double second = std::exp(v[static_cast<std::size_t>(e)]) / sum_exp(v, members);
      if (c.config.score() != configs::RouterConfig::SOFTMAX) continue;
      ASSERT_NEAR(s[e], first > 0.0 ? first * second : 0.0, 1e-13);
    }
  }
  for (const std::int32_t g : groups) {
    std::vector<double> inside(v.begin() + g * size, v.begin() + (g + 1) * size);
    std::vector<std::int32_t> best = descending(inside);
    best.resize(static_cast<std::size_t>(config.k()));
    for (std::int32_t& e : best) e += static_cast<std::int32_t>(g * size);
    for (const std::int32_t e : best) {
      ASSERT_EQ(*chosen++, e);
      const double first = std::exp(u[static_cast<std::size_t>(g)]) / sum_exp(u, groups);
      const double second = std::exp(v[static_cast<std::size_t>(e)]) / sum_exp(v, best);
      ASSERT_NEAR(*weights++, c.config.routed_scaling_factor() * first * second, 1e-13);
    }
  }
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
  const std::int64_t groups = c.config.hierarchical().n_group();
  std::vector<double> group_weight = coarse(groups * c.width, seed + 4);
  if (groups > 0) params.group_weight = view(group_weight, {groups, c.width});
  if (!c.expert_bias) std::fill(expert_bias.begin(), expert_bias.end(), 0.0);

  const std::unique_ptr<Router> router = make_router(c.config, c.place());
  Arena arena, choice;
  const RouterArenas arenas = {arena, arena, choice, arena};
  RouterSaved saved;
  const TokenBatch batch(c.tokens, 1, kVocab);
  const Capacity no_limit(configs::MoeConfig{}, 1);
  router->forward({}, params, no_limit, view(x, {c.tokens, c.width}), arenas, false, nullptr,
                  RankGroup::alone(), batch.batch, saved);
  Routed routed{copy_of(saved.z), copy_of(saved.s), {}, copy_of(saved.weights)};
  const auto* index = saved.indices.as<std::int32_t>();
  routed.indices.assign(index, index + saved.indices.size());
  const std::int64_t top_k = router->top_k();
  for (std::int64_t t = 0; groups > 0 && t < c.tokens; ++t) {
    std::vector<double> u, v;
    for (std::int64_t e = 0; e < c.experts; ++e) {
      v.push_back((c.bias ? bias[static_cast<std::size_t>(e)] : 0.0) +
                  dot(x, t, weight, e, c.width));
    }
    for (std::int64_t g = 0; g < groups; ++g) {
      const bool open = is_allowed(c, t, g * (c.experts / groups));
      u.push_back(open ? dot(x, t, group_weight, g, c.width) : -HUGE_VAL);
    }
    check_gates(c, u, v, routed.s.data() + t * c.experts, routed.indices.data() + t * top_k,
                routed.weights.data() + t * top_k);
  }
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    for (std::int64_t e = 0; e < c.experts; ++e) {
      double z = c.bias ? bias[static_cast<std::size_t>(e)] : 0.0;
      z += dot(x, t, weight, e, c.width);
      if (c.config.has_hierarchical()) continue;  // check_gates
      EXPECT_DOUBLE_EQ(routed.z[static_cast<std::size_t>(t * c.experts + e)],
                       is_allowed(c, t, e) ? z : -HUGE_VAL);
    }
  }
  return routed;
}

double score_of(configs::RouterConfig::Score score, double z, double total) {
  switch (score) {
    case configs::RouterConfig::SIGMOID: return 1.0 / (1.0 + std::exp(-z));
    case configs::RouterConfig::SQRT_SOFTPLUS: return std::sqrt(std::log1p(std::exp(z)));
    default: return std::exp(z) / total;
  }
}

double weight_of(configs::RouterConfig::Weights weights, double s) {
  if (weights == configs::RouterConfig::UNIFORM) return 1.0;
  return weights == configs::RouterConfig::SOFTMAX_OF_SCORES ? std::exp(s) : s;
}

// Scores as defined, and weights from the chosen scores without the expert bias.
void check_token(const RouterCase& c, const double* z, const double* s, const std::int32_t* chosen,
                 const double* weights, std::int64_t top_k) {
  const auto experts = static_cast<std::size_t>(c.experts);
  double total = 0.0;
  for (std::size_t e = 0; e < experts; ++e) total += std::exp(z[e]);
  for (std::size_t e = 0; e < experts; ++e) {
    ASSERT_NEAR(s[e], score_of(c.config.score(), z[e], total), 1e-13);
  }
  std::set<std::int32_t> distinct;
  double sum = 1e-20;
  bool ended = false;
  for (std::int64_t j = 0; j < top_k; ++j) {
    if (chosen[j] == ops::kNoChoice) {
      ended = true;
      ASSERT_EQ(weights[j], 0.0);
      continue;
    }
    ASSERT_FALSE(ended) << "a choice behind the last one";
    ASSERT_TRUE(std::isfinite(z[chosen[j]])) << "expert " << chosen[j] << " is not allowed";
    ASSERT_TRUE(distinct.insert(chosen[j]).second) << "an expert is chosen twice";
    sum += weight_of(c.config.weights(), s[chosen[j]]);
  }
  const bool fixed = !c.config.has_top_p() && !c.config.has_expert_choice() && !c.config.has_all();
  if (fixed) {
    ASSERT_EQ(static_cast<std::int64_t>(distinct.size()), top_k) << "k experts each";
  }
  if (c.config.has_hierarchical()) return;  // check_gates
  for (std::int64_t j = 0; j < static_cast<std::int64_t>(distinct.size()); ++j) {
    double expected =
        weight_of(c.config.weights(), s[chosen[j]]) * c.config.routed_scaling_factor();
    if (c.config.weights() != configs::RouterConfig::AS_IS) expected /= sum;
    ASSERT_NEAR(weights[j], expected, 1e-13 * (1.0 + expected));
  }
}

// The experts of the best groups; the others sink below everything.
void sink_other_groups(const configs::GroupLimitedSelection& config, std::vector<double>& value) {
  const std::size_t size = value.size() / static_cast<std::size_t>(config.n_group());
  std::vector<double> scores;
  for (std::size_t begin = 0; begin < value.size(); begin += size) {
    std::vector<double> group(value.begin() + static_cast<std::ptrdiff_t>(begin),
                              value.begin() + static_cast<std::ptrdiff_t>(begin + size));
    std::sort(group.rbegin(), group.rend());
    scores.push_back(std::accumulate(group.begin(), group.begin() + config.group_top(), 0.0));
  }
  const std::vector<std::int32_t> order = descending(scores);
  for (std::size_t i = static_cast<std::size_t>(config.topk_group()); i < order.size(); ++i) {
    const auto first = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(order[i]) * size);
    std::fill_n(value.begin() + first, size, -1e300);
  }
}

// What this token must have chosen; empty: the selection is not one of score + bias.
std::vector<std::int32_t> expected_choice(const RouterCase& c, const double* z, const double* s,
                                          const std::vector<double>& bias, std::int64_t top_k) {
  using configs::RouterConfig;
  const bool biased = !c.config.has_sinkhorn();  // in evaluation sinkhorn is plain top_k
  std::vector<double> value;
  for (std::int64_t e = 0; e < c.experts; ++e) {
    const double b = biased ? bias[static_cast<std::size_t>(e)] : 0.0;
    value.push_back(std::isfinite(z[e]) ? s[e] + b : -HUGE_VAL);
  }
  switch (c.config.selection_case()) {
    case RouterConfig::kGroupLimited: sink_other_groups(c.config.group_limited(), value); break;
    case RouterConfig::kSinkhorn:
    case RouterConfig::kTopK:
    case RouterConfig::kNoisyTopK:
    case RouterConfig::kTopP: break;
    default: return {};
  }
  std::vector<std::int32_t> order = descending(value);
  order.resize(static_cast<std::size_t>(top_k));
  if (!c.config.has_top_p()) return order;
  const double enough = c.config.top_p().p() * std::accumulate(s, s + c.experts, 0.0);
  double mass = 0.0;
  for (std::size_t j = 0; j < order.size(); ++j) {
    const double score = s[order[j]];
    if (j > 0 && mass >= enough) order[j] = ops::kNoChoice;
    mass += score;
  }
  return order;
}

void check_expert_choice(const RouterCase& c, const Routed& routed) {
  const auto& config = c.config.expert_choice();
  const double share = config.capacity_factor() * static_cast<double>(config.k() * c.tokens) /
                       static_cast<double>(c.experts);
  const std::int64_t capacity = std::min(c.tokens, static_cast<std::int64_t>(std::ceil(share)));
  for (std::int64_t e = 0; e < c.experts; ++e) {
    double worst_taken = 1e300;
    double best_left = -1e300;
    std::int64_t taken = 0;
    std::int64_t candidates = 0;
    for (std::int64_t t = 0; t < c.tokens; ++t) {
      const auto* row = routed.indices.data() + t * c.experts;
      const double s = routed.s[static_cast<std::size_t>(t * c.experts + e)];
      const bool chosen = std::find(row, row + c.experts, e) != row + c.experts;
      taken += chosen ? 1 : 0;
      if (!is_allowed(c, t, e)) continue;
      ++candidates;
      (chosen ? worst_taken : best_left) =
          chosen ? std::min(worst_taken, s) : std::max(best_left, s);
    }
    ASSERT_EQ(taken, std::min(capacity, candidates)) << "expert " << e;
    ASSERT_GE(worst_taken, best_left) << "expert " << e;
  }
}

// Random settings of a selection that fit `experts`.
template <class Between>
void vary(configs::RouterConfig& config, std::int64_t& experts, const Between& between) {
  using configs::RouterConfig;
  switch (config.selection_case()) {
    case RouterConfig::kTopK: config.mutable_top_k()->set_k(between(1, experts)); break;
    case RouterConfig::kNoisyTopK: config.mutable_noisy_top_k()->set_k(between(1, experts)); break;
    case RouterConfig::kSinkhorn: config.mutable_sinkhorn()->set_k(between(1, experts)); break;
    case RouterConfig::kHash: config.mutable_hash()->set_k(between(1, experts)); break;
    case RouterConfig::kExpertChoice: config.mutable_expert_choice()->set_k(between(1, 4)); break;
    case RouterConfig::kTopP:
      config.mutable_top_p()->set_k_max(between(1, experts));
      config.mutable_top_p()->set_p(static_cast<double>(between(1, 10)) / 10.0);
      break;
    case RouterConfig::kHierarchical: {
      auto& groups = *config.mutable_hierarchical();
      groups.set_n_group(between(1, 6));
      const std::int64_t size = between(1, 9);
      experts = groups.n_group() * size;
      groups.set_topk_group(between(1, groups.n_group()));
      groups.set_k(between(1, size));
      break;
    }
    case RouterConfig::kGroupLimited: {
      auto& groups = *config.mutable_group_limited();
      groups.set_n_group(between(1, 6));
      const std::int64_t size = between(1, 9);
      experts = groups.n_group() * size;
      groups.set_topk_group(between(1, groups.n_group()));
      groups.set_group_top(between(1, size));
      groups.set_k(between(1, groups.topk_group() * size));
      break;
    }
    default: break;
  }
}

// Two random sets of experts, each large enough; whole groups where the selection has groups.
template <class Between>
configs::AllowedExperts random_sets(const RouterCase& c, std::int64_t top_k,
                                    const Between& between) {
  configs::AllowedExperts allowed;
  const bool two_gates = c.config.has_hierarchical();
  const std::int64_t count =
      two_gates ? c.config.hierarchical().n_group() : c.config.group_limited().n_group();
  const std::int64_t chosen =
      two_gates ? c.config.hierarchical().topk_group() : c.config.group_limited().topk_group();
  const std::int64_t size = count > 0 ? c.experts / count : 1;
  const bool all_sizes = c.config.has_all() || c.config.has_expert_choice();
  const std::int64_t fewest = all_sizes ? 1 : std::max(top_k, chosen * size);
  for (const char* name : {"a", "b"}) {
    std::set<std::int64_t> parts;
    const std::int64_t wanted = between((fewest + size - 1) / size, c.experts / size);
    while (static_cast<std::int64_t>(parts.size()) < wanted) {
      parts.insert(between(0, c.experts / size - 1));
    }
    std::string list;
    for (const std::int64_t part : parts) {
      list += (list.empty() ? "" : ",") + std::to_string(part * size) + "-" +
              std::to_string((part + 1) * size - 1);
    }
    allowed.add_tag()->set_name(name);
    allowed.mutable_tag(allowed.tag_size() - 1)->set_experts(list);
  }
  return allowed;
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
      vary(c.config, c.experts, between);
      c.config.set_score(static_cast<configs::RouterConfig::Score>(between(0, 2)));
      c.config.set_weights(static_cast<configs::RouterConfig::Weights>(between(0, 3)));
      c.config.set_routed_scaling_factor(static_cast<double>(between(1, 3)));
      if (trial % 2 == 1) {
        const std::int64_t columns = make_router(c.config, c.place())->top_k();
        c.allowed = random_sets(c, columns, between);
      }
      SCOPED_TRACE(describe(c));
      std::vector<double> bias;
      const Routed routed = route(c, static_cast<std::uint64_t>(10 * trial), bias);
      const std::int64_t top_k = make_router(c.config, c.place())->top_k();
      ASSERT_EQ(static_cast<std::int64_t>(routed.indices.size()), c.tokens * top_k);
      for (std::int64_t t = 0; t < c.tokens; ++t) {
        const double* scores = routed.s.data() + t * c.experts;
        const std::int32_t* chosen = routed.indices.data() + t * top_k;
        ASSERT_NO_FATAL_FAILURE(check_token(c, routed.z.data() + t * c.experts, scores, chosen,
                                            routed.weights.data() + t * top_k, top_k));
        const std::vector<std::int32_t> expected =
            expected_choice(c, routed.z.data() + t * c.experts, scores, bias, top_k);
        if (expected.empty()) continue;
        ASSERT_EQ(std::vector<std::int32_t>(chosen, chosen + top_k), expected);
      }
      if (c.config.has_expert_choice()) {
        ASSERT_NO_FATAL_FAILURE(check_expert_choice(c, routed));
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
