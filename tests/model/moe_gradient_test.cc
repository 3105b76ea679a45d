// The MoE layer against central differences, in float64: every registered router with every
// registered balancer, score, weighting and kind of expert. A difference that changes a choice
// would measure a jump: the choices are compared in every evaluation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "core/model/check_model.h"
#include "core/model/moe_layer.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

constexpr std::int64_t kSequences = 3;
constexpr std::int64_t kSeqLen = 5;
constexpr std::int64_t kTokens = kSequences * kSeqLen;
constexpr std::int64_t kWidth = 6;
constexpr std::int64_t kExperts = 6;
constexpr double kGradientScale = 1.75;  // loss tokens / routed tokens; not 1, so that it shows

constexpr const char* kAllLosses =
    "balance { switch_aux { coefficient: 0.7 scope: SEQUENCE } }"
    "balance { switch_aux { coefficient: 0.5 scope: MICRO_BATCH } }"
    "balance { switch_aux { coefficient: 0.9 scope: GLOBAL_BATCH } }"
    "balance { switch_aux { coefficient: 0.6 scope: SEQUENCE load: UNBIASED } }"
    "balance { importance_cv2 { coefficient: 0.4 } } balance { entropy { coefficient: 0.2 } }"
    "balance { importance_cv2 { coefficient: 0.3 importance: WEIGHTS scope: GLOBAL_MICRO_BATCH } }"
    "balance { switch_aux { coefficient: 0.3 counts: RUNNING } }"
    "balance { device_balance { coefficient: 0.4 groups: 2 } }"
    "balance { z_loss { coefficient: 0.3 } } balance { expert_bias { rate: 0.01 } }";

struct MoeCase {
  std::string selection = "top_k { k: 2 }";
  std::string router = "score: SOFTMAX weights: RENORMALIZED";
  std::string moe = "expert_kind: SWIGLU";
  std::string balance = kAllLosses;

  configs::ModelConfig config() const {
    return model_config(
        "vocab_size: 5 d_model: 6 layers: 1 attention { heads: 1 } moe { experts: 6 d_ff: 5 " +
        moe + " router { " + router + " " + selection + " } " + balance + " }");
  }
};

// One layer, its input and a projection of its output; what a backward gave.
class MoeRun {
 public:
  explicit MoeRun(const MoeCase& moe_case, Recompute recompute = Recompute::kNone,
                  int exchange_chunks = 1)
      : model_(moe_case.config(), recompute),
        layer_(model_.config, model_.params, 0, 1),
        batch_(kSequences, kSeqLen, 5),
        x_(normal_values(kTokens * kWidth, 1)),
        projection_(normal_values(kTokens * kWidth, 2)),
        y_(x_.size()),
        dx_(x_.size()) {
    model_.context.exchange_chunks = exchange_chunks;
    batch_.batch.training = true;
    batch_.batch.seed = 3;
    batch_.batch.step = 2;
    // Any shares will do, as long as they are not even.
    std::vector<double>& fractions = layer_.global_fractions();
    for (std::size_t i = 0; i < fractions.size(); ++i) {
      fractions[i] = static_cast<double>(i + 1) / 21.0;
    }
  }

  // Projected output plus balancing losses; leaves gradients behind.
  double run() {
    model_.zero_gradients();
    model_.arenas.reset();
    layer_.stats().clear();
    saved_.has_choice = false;
    layer_.forward(model_.context, batch_.batch, view(x_, {kTokens, kWidth}),
                   view(y_, {kTokens, kWidth}), saved_);
    check_choices();
    layer_.backward(model_.context, batch_.batch, view(projection_, {kTokens, kWidth}),
                    view(x_, {kTokens, kWidth}), saved_, view(dx_, {kTokens, kWidth}),
                    kGradientScale);
    double balance = 0.0;
    for (const double loss : layer_.stats().losses) balance += loss;
    return project(y_, projection_) + kGradientScale * balance;
  }

  void check_gradients() {
    run();
    const std::vector<double> dx = dx_;
    const std::vector<std::vector<double>> gradients = model_.gradients();
    const auto loss = [&] { return run(); };
    ASSERT_NO_FATAL_FAILURE(expect_gradient_of("x", view(x_, {kTokens, kWidth}), dx, loss));
    expect_parameter_gradients(
        model_, gradients,
        [](const std::string& name) { return name.find(".moe.") != std::string::npos; }, loss);
  }

  Model& model() { return model_; }
  const std::vector<double>& x() const { return x_; }
  const std::vector<double>& y() const { return y_; }
  const std::vector<double>& dx() const { return dx_; }
  const MoeStats& stats() const { return layer_.stats(); }
  std::int64_t slots() const { return saved_.chunks.front().plan.slots; }

 private:
  void check_choices() {
    const auto* index = saved_.router.indices.as<std::int32_t>();
    const std::vector<std::int32_t> choices(index, index + saved_.router.indices.size());
    if (choices_.empty()) choices_ = choices;
    ASSERT_EQ(choices, choices_) << "a difference flipped a choice: take another seed";
  }

  Model model_;
  MoeLayer layer_;
  TokenBatch batch_;
  std::vector<double> x_, projection_, y_, dx_;
  std::vector<std::int32_t> choices_;
  MoeLayer::Saved saved_;
};

// Where sums over an expert's rows are taken in another order.
void expect_near_gradients(MoeRun& found, MoeRun& expected) {
  constexpr double kTolerance = 1e-12;
  const std::vector<std::vector<double>> a = found.model().gradients();
  const std::vector<std::vector<double>> b = expected.model().gradients();
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a[i].size(); ++j) {
      EXPECT_NEAR(a[i][j], b[i][j], kTolerance * (1.0 + std::abs(b[i][j])));
    }
  }
}

TEST(MoeGradient, EveryRouterScoreWeightingAndBalancer) {
  std::vector<std::string> balances = {"", kAllLosses};
  for (const BalancerEntry& balancer : registered_balancers()) {
    balances.push_back("balance { " + std::string(balancer.example) + " }");
  }
  for (const RouterEntry& router : registered_routers()) {
    for (const char* score : {"SOFTMAX", "SIGMOID", "SQRT_SOFTPLUS"}) {
      for (const char* weights : {"RENORMALIZED", "AS_IS", "SOFTMAX_OF_SCORES", "UNIFORM"}) {
        for (const std::string& balance : balances) {
          const bool every_balancer = std::string(weights) == "RENORMALIZED";
          const bool noisy = router.selection == configs::RouterConfig::kNoisyTopK;
          if (!noisy && balance.find("load_cv2") != std::string::npos) continue;
          if (!every_balancer && balance != kAllLosses) continue;
          MoeCase moe_case;
          moe_case.selection = router.example;
          moe_case.router = "score: " + std::string(score) + " weights: " + weights +
                            " bias: true routed_scaling_factor: 2.5";
          moe_case.balance = balance;
          SCOPED_TRACE(std::string(router.name) + " " + moe_case.router + " " + balance);
          MoeRun run(moe_case);
          ASSERT_NO_FATAL_FAILURE(run.check_gradients());
        }
      }
    }
  }
}

// Every pair of router and kind of expert, the extras taking turns.
TEST(MoeGradient, EveryKindOfExpertWithAndWithoutSharedExpert) {
  const std::vector<std::string> kinds = {
      "SWIGLU", "SILU",      "RELU",
      "GELU",   "GELU_TANH", "SWIGLU swiglu { up_offset: 1 gate_slope: 1.702 clamp: 0.9 }"};
  const std::vector<std::string> extras = {"", " shared_d_ff: 4", " expert_bias_terms: true",
                                           " shared_d_ff: 4 shared_gate: true"};
  std::size_t turn = 0;
  for (const std::string& kind : kinds) {
    for (const RouterEntry& router : registered_routers()) {
      MoeCase moe_case;
      moe_case.selection = router.example;
      moe_case.moe = "expert_kind: " + kind + extras[turn++ % extras.size()];
      SCOPED_TRACE(moe_case.moe + " " + router.name);
      MoeRun run(moe_case);
      ASSERT_NO_FATAL_FAILURE(run.check_gradients());
    }
    ++turn;  // so that a router meets every extra
  }
}

TEST(MoeGradient, DroppedPairs) {
  for (const char* policy : {"TOKEN_MAJOR", "CHOICE_MAJOR", "PROBABILITY", "BATCH_PRIORITY"}) {
    for (const char* renormalize : {"false", "true"}) {
      for (const char* weights : {"RENORMALIZED", "AS_IS", "SOFTMAX_OF_SCORES"}) {
        MoeCase moe_case;
        moe_case.router = std::string("score: SIGMOID bias: true weights: ") + weights;
        moe_case.moe = std::string("capacity { factor: 0.7 policy: ") + policy +
                       " renormalize_after_drop: " + renormalize + " }";
        SCOPED_TRACE(moe_case.router + " " + moe_case.moe);
        MoeRun run(moe_case);
        ASSERT_NO_FATAL_FAILURE(run.check_gradients());
        ASSERT_GT(run.stats().dropped, 0);
      }
    }
  }
}

// Every router where a tag shuts half of the experts off, with and without the smooth load.
TEST(MoeGradient, ExpertsByTag) {
  for (const RouterEntry& router : registered_routers()) {
    for (const char* score : {"SOFTMAX", "SIGMOID", "SQRT_SOFTPLUS"}) {
      MoeCase moe_case;
      moe_case.selection = router.example;
      moe_case.router = std::string("bias: true score: ") + score;
      moe_case.moe =
          "allowed_experts { tag { name: 'a' experts: '0,1' } tag { name: 'b' experts: '2-3' } "
          "open_to_all: '4-5' }";
      const bool noisy = router.selection == configs::RouterConfig::kNoisyTopK;
      if (noisy) moe_case.balance += " balance { load_cv2 { coefficient: 0.7 } }";
      SCOPED_TRACE(router.name + (" " + moe_case.router));
      MoeRun run(moe_case);
      ASSERT_NO_FATAL_FAILURE(run.check_gradients());
      EXPECT_TRUE(std::isfinite(run.stats().logit_square));
      EXPECT_EQ(run.stats().logits, kTokens * 4) << "of six experts";
    }
  }
}

bool accepts(const configs::ModelConfig& config) {
  bool good = true;
  check_model(config, [&](const std::string&, const std::string&) { good = false; });
  return good;
}

// Experts that compute nothing beside those that do, with every loss, and where pairs are dropped.
TEST(MoeGradient, ZeroComputationExperts) {
  int selections = 0;
  for (const RouterEntry& router : registered_routers()) {
    for (const char* more : {"", " shared_d_ff: 4 capacity { factor: 0.5 }"}) {
      MoeCase moe_case;
      moe_case.selection = router.example;
      const bool expert_choice = router.selection == configs::RouterConfig::kExpertChoice;
      moe_case.router = "bias: true allow_non_causal: true";
      if (expert_choice) moe_case.router += " weights: AS_IS";
      moe_case.moe = std::string("zero_computation { zero: 1 copy: 1 constant: 2 }") + more;
      moe_case.balance = std::string(kAllLosses) +
                         "balance { switch_aux { coefficient: 0.3 scope: SEQUENCE "
                         "zero_computation_weight: 0.5 } }";
      configs::ModelConfig config = moe_case.config();
      // Whatever else is refused, such as a bias that the selection does not look at.
      config.mutable_moe()->clear_balance();
      if (!accepts(config)) continue;
      ++selections;
      SCOPED_TRACE(router.name + (" " + moe_case.moe));
      MoeRun run(moe_case);
      ASSERT_NO_FATAL_FAILURE(run.check_gradients());
      const std::vector<std::int64_t>& counts = run.stats().counts;
      EXPECT_GT(std::accumulate(counts.begin() + 6, counts.end(), std::int64_t{0}), 0);
    }
  }
  EXPECT_EQ(selections, 2 * (static_cast<int>(registered_routers().size()) - 2));
}

TEST(MoeLayer, ZeroComputationExpertsDoAsTheySay) {
  MoeCase moe_case;
  moe_case.selection = "all {}";
  moe_case.router = "score: SIGMOID weights: UNIFORM";
  moe_case.moe = "zero_computation { zero: 5 }";
  moe_case.balance = "";
  MoeRun skipped(moe_case);
  skipped.run();
  moe_case.moe = "zero_computation { copy: 5 }";
  MoeRun copied(moe_case);
  copied.run();
  // The experts' own parameters come first in both and are the same.
  for (std::size_t i = 0; i < copied.y().size(); ++i) {
    EXPECT_NEAR(copied.y()[i], skipped.y()[i] + 5.0 / 11.0 * copied.x()[i], 1e-14);
  }
}

// Both gates, where groups are larger than what is chosen of them, and where capacity takes some of
// a group or all of it.
TEST(MoeGradient, HierarchicalGates) {
  for (const char* selection : {"hierarchical { k: 2 n_group: 2 topk_group: 2 }",
                                "hierarchical { k: 2 n_group: 2 topk_group: 1 }",
                                "hierarchical { k: 1 n_group: 3 topk_group: 2 }"}) {
    for (const char* moe : {"", "capacity { factor: 0.6 }",
                            "capacity { factor: 0.6 renormalize_after_drop: true }"}) {
      MoeCase moe_case;
      moe_case.selection = selection;
      moe_case.router = "bias: true routed_scaling_factor: 2.5";
      moe_case.moe = moe;
      SCOPED_TRACE(moe_case.selection + " " + moe);
      MoeRun run(moe_case);
      ASSERT_NO_FATAL_FAILURE(run.check_gradients());
    }
  }
}

// As many experts are allowed as are chosen: nothing is left to chance, or to noise.
TEST(MoeGradient, AsManyExpertsByTagAsChoices) {
  MoeCase moe_case;
  moe_case.selection = "noisy_top_k { k: 2 }";
  moe_case.moe =
      "allowed_experts { tag { name: 'a' experts: '0,5' } tag { name: 'b' experts: '2,3' } }";
  moe_case.balance = "balance { load_cv2 { coefficient: 0.7 } } balance { z_loss {} }";
  MoeRun run(moe_case);
  ASSERT_NO_FATAL_FAILURE(run.check_gradients());
  EXPECT_EQ(run.stats().counts, (std::vector<std::int64_t>{10, 0, 5, 5, 0, 10}));
}

TEST(MoeGradient, PaddedToCapacity) {
  for (const char* factor : {"0.7", "1.6"}) {
    MoeCase moe_case;
    moe_case.moe = std::string("expert_bias_terms: true capacity { factor: ") + factor +
                   " pad_to_capacity: true }";
    SCOPED_TRACE(moe_case.moe);
    MoeRun run(moe_case);
    ASSERT_NO_FATAL_FAILURE(run.check_gradients());
  }
}

TEST(MoeGradient, InRounds) {
  MoeCase moe_case;
  moe_case.moe = "expert_kind: SWIGLU shared_d_ff: 4";
  MoeRun run(moe_case);
  run.model().context.max_rows = 7;
  ASSERT_NO_FATAL_FAILURE(run.check_gradients());
}

TEST(MoeGradient, NoiseJitterAndTheirLosses) {
  for (const char* noise : {"LEARNED", "FIXED"}) {
    MoeCase moe_case;
    moe_case.selection = "noisy_top_k { k: 2 noise: " + std::string(noise) + " }";
    moe_case.router = "score: SOFTMAX input_jitter: 0.2";
    moe_case.balance = "balance { load_cv2 { coefficient: 0.7 } } balance { z_loss {} }";
    SCOPED_TRACE(moe_case.selection);
    MoeRun run(moe_case);
    ASSERT_NO_FATAL_FAILURE(run.check_gradients());
  }
}

TEST(MoeGradient, OneAndAllExpertsPerToken) {
  for (const char* selection : {"top_k { k: 1 }", "top_k { k: 6 }"}) {
    SCOPED_TRACE(selection);
    MoeCase moe_case;
    moe_case.selection = selection;
    moe_case.router = "score: SOFTMAX weights: AS_IS";
    MoeRun run(moe_case);
    ASSERT_NO_FATAL_FAILURE(run.check_gradients());
  }
}

// lessons: the sum of sigmoid scores near zero.
TEST(MoeGradient, SigmoidOfVeryNegativeLogits) {
  MoeCase moe_case;
  moe_case.router = "score: SIGMOID weights: RENORMALIZED bias: true";
  moe_case.balance = "balance { switch_aux { coefficient: 0.5 scope: SEQUENCE } }";
  for (const double bias : {-15.0, -800.0}) {
    MoeRun run(moe_case);
    const TensorView value = run.model().params.value("layers.0.moe.router.bias");
    std::fill_n(value.as<double>(), value.size(), bias);
    if (bias > -100.0) {
      ASSERT_NO_FATAL_FAILURE(run.check_gradients());
      continue;
    }
    // The scores are 0 in float64: nothing is left to differentiate, but nothing may be NaN.
    EXPECT_TRUE(std::isfinite(run.run()));
    for (const double value_of_y : run.y()) EXPECT_TRUE(std::isfinite(value_of_y));
    for (const double value_of_dx : run.dx()) EXPECT_TRUE(std::isfinite(value_of_dx));
  }
}

TEST(MoeLayer, RecomputeGivesTheSameBits) {
  MoeCase moe_case;
  moe_case.moe = "expert_kind: SWIGLU shared_d_ff: 4";
  MoeRun keep(moe_case);
  const double loss = keep.run();
  for (const Recompute recompute : {Recompute::kMoeActivation, Recompute::kMoeLayer}) {
    MoeRun again(moe_case, recompute);
    EXPECT_EQ(again.run(), loss);
    EXPECT_EQ(again.y(), keep.y());
    EXPECT_EQ(again.dx(), keep.dx());
    EXPECT_EQ(again.model().gradients(), keep.model().gradients());
    EXPECT_EQ(again.stats().counts, keep.stats().counts) << "counted once, also if recomputed";
    EXPECT_LT(again.model().arenas.saved.bytes_high_water(),
              keep.model().arenas.saved.bytes_high_water());
  }
}

// Padding has weight 0: not a bit differs but in the weights' gradients, which sum over more rows.
TEST(MoeLayer, PaddingGivesTheSameNumbers) {
  for (const char* kind : {"SWIGLU", "RELU expert_bias_terms: true"}) {
    const auto capacity = [&](const char* padding) {
      MoeCase moe_case;
      moe_case.moe =
          std::string("expert_kind: ") + kind + " capacity { factor: 1.3 " + padding + " }";
      return moe_case;
    };
    MoeRun bare(capacity("")), padded(capacity("pad_to_capacity: true"));
    EXPECT_EQ(padded.run(), bare.run());
    EXPECT_EQ(padded.y(), bare.y());
    EXPECT_EQ(padded.dx(), bare.dx());
    EXPECT_EQ(padded.stats().counts, bare.stats().counts);
    EXPECT_EQ(padded.slots(), 6 * 7) << "ceil(2 x 15 x 1.3 / 6) = 7 places at each of 6 experts";
    EXPECT_LT(bare.slots(), padded.slots());
    expect_near_gradients(padded, bare);
  }
}

TEST(MoeLayer, RoundsGiveTheSameNumbersAndKeepNothing) {
  MoeCase moe_case;
  moe_case.moe = "expert_kind: SWIGLU shared_d_ff: 4";
  MoeRun whole(moe_case);
  const double loss = whole.run();
  for (const std::int64_t max_rows : {2, 7, 29, 30}) {
    MoeRun rounds(moe_case);
    rounds.model().context.max_rows = max_rows;
    EXPECT_EQ(rounds.run(), loss);
    EXPECT_EQ(rounds.y(), whole.y());
    EXPECT_EQ(rounds.dx(), whole.dx());
    EXPECT_EQ(rounds.stats().counts, whole.stats().counts);
    expect_near_gradients(rounds, whole);
    const std::size_t kept = rounds.model().arenas.saved.bytes_high_water();
    const std::size_t all = whole.model().arenas.saved.bytes_high_water();
    if (max_rows < 30) {
      EXPECT_LT(kept, all);
    } else {
      EXPECT_EQ(kept, all);
    }
  }
}

// Only sums over the tokens of an expert are taken in another order. More chunks than tokens leave
// some of them empty.
TEST(MoeLayer, ChunksGiveTheSameNumbers) {
  MoeCase moe_case;
  moe_case.moe = "expert_kind: SWIGLU shared_d_ff: 4";
  for (const Recompute recompute :
       {Recompute::kNone, Recompute::kMoeActivation, Recompute::kMoeLayer}) {
    MoeRun whole(moe_case, recompute);
    const double loss = whole.run();
    for (const int chunks : {2, 4, 17}) {
      MoeRun parts(moe_case, recompute, chunks);
      EXPECT_EQ(parts.run(), loss);
      EXPECT_EQ(parts.y(), whole.y());
      EXPECT_EQ(parts.dx(), whole.dx());
      expect_near_gradients(parts, whole);
    }
  }
}

// The gradients that a second micro-batch adds are its own.
TEST(MoeLayer, ParameterGradientsAccumulate) {
  MoeRun run(MoeCase{});
  run.run();
  const std::vector<std::vector<double>> once = run.model().gradients();
  Model& model = run.model();
  MoeLayer layer(model.config, model.params, 0, 1);
  TokenBatch batch(0, kSeqLen, 5);
  std::vector<double> none;
  MoeLayer::Saved saved;
  layer.forward(model.context, batch.batch, view(none, {0, kWidth}), view(none, {0, kWidth}),
                saved);
  layer.backward(model.context, batch.batch, view(none, {0, kWidth}), view(none, {0, kWidth}),
                 saved, view(none, {0, kWidth}), kGradientScale);
  EXPECT_EQ(model.gradients(), once) << "a micro-batch without tokens adds nothing";
  EXPECT_EQ(layer.stats().tokens, 0);
}

}  // namespace
}  // namespace witan::test
