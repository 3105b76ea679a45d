// The whole transformer against central differences, in float64; what recompute must not change.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/model/transformer.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

constexpr std::int64_t kVocab = 11;
constexpr double kGradientScale = 0.8;

// Records the choices of every layer.
class Watch final : public RoutingHook {
 public:
  void on_route(int, const Batch&, const TensorView& indices, std::int64_t) override {
    const auto* index = indices.as<std::int32_t>();
    choices.insert(choices.end(), index, index + indices.size());
  }
  std::vector<std::int32_t> choices;
};

class TransformerRun {
 public:
  explicit TransformerRun(const configs::ModelConfig& config,
                          Recompute recompute = Recompute::kNone, std::uint64_t seed = 5)
      : model_(config),
        transformer_(model_.config, model_.params, model_.exchange, {}, {recompute, 2}),
        tokens_(3, 6, kVocab, 2, seed) {
    for (MoeLayer* layer : transformer_.moe_layers()) {
      std::vector<double>& fractions = layer->global_fractions();
      const auto n = static_cast<double>(fractions.size());
      for (std::size_t i = 0; i < fractions.size(); ++i) {
        fractions[i] = 2.0 * static_cast<double>(i + 1) / (n * (n + 1.0));
      }
    }
  }

  // Sum of the losses of all targets plus the balancing losses; leaves gradients behind.
  double run() {
    model_.zero_gradients();
    Watch watch;
    transformer_.set_hook(&watch);
    transformer_.forward_train(tokens_.batch);
    double loss = transformer_.backward(tokens_.batch, kGradientScale);
    transformer_.set_hook(nullptr);
    for (MoeLayer* layer : transformer_.moe_layers()) {
      for (const double balance : layer->stats().losses) loss += kGradientScale * balance;
      counts_ = layer->stats().counts;
      layer->stats().clear();
    }
    for (MtpStats& stats : transformer_.mtp_stats()) {
      loss += stats.objective;
      stats.clear();
    }
    if (choices_.empty()) choices_ = watch.choices;
    EXPECT_EQ(watch.choices, choices_) << "a difference flipped a choice: take another seed";
    return loss;
  }

  void check_gradients() {
    run();
    const std::vector<std::vector<double>> gradients = model_.gradients();
    expect_parameter_gradients(
        model_, gradients, [](const std::string&) { return true; }, [&] { return run(); }, 3);
  }

  Model& model() { return model_; }
  Transformer& transformer() { return transformer_; }
  const TokenBatch& tokens() const { return tokens_; }
  const std::vector<std::int64_t>& counts() const { return counts_; }

 private:
  Model model_;
  Transformer transformer_;
  TokenBatch tokens_;
  std::vector<std::int32_t> choices_;
  std::vector<std::int64_t> counts_;
};

constexpr const char* kMoe =
    " moe { experts: 4 d_ff: 3 shared_d_ff: 2"
    " router { top_k { k: 2 } score: SIGMOID bias: true routed_scaling_factor: 1.5 }"
    " balance { switch_aux { coefficient: 0.4 scope: SEQUENCE } }"
    " balance { switch_aux { coefficient: 0.4 scope: GLOBAL_BATCH } }"
    " balance { z_loss { coefficient: 0.2 } } balance { expert_bias {} } ";

configs::ModelConfig dense_and_moe(bool tied, const std::string& pattern) {
  return model_config("vocab_size: 11 d_model: 6 layers: 3 ffn { d_ff: 4 } tied_head: " +
                      std::string(tied ? "true" : "false") +
                      " attention { heads: 2 kv_heads: 1 head_dim: 4 qk_norm: true }" + kMoe +
                      pattern + " }");
}

TEST(TransformerGradient, DenseAndMoeLayersUntied) {
  TransformerRun run(dense_and_moe(false, "pattern { every: 2 }"));
  EXPECT_EQ(run.transformer().moe_layers().size(), 2u);
  run.check_gradients();
}

TEST(TransformerGradient, TiedHeadAndAListOfMoeLayers) {
  TransformerRun run(dense_and_moe(true, "pattern { list: 1 }"));
  EXPECT_EQ(run.transformer().moe_layers().size(), 1u);
  run.check_gradients();
}

TEST(TransformerGradient, TwoModulesOfMultiTokenPredictionWithExperts) {
  configs::ModelConfig config = dense_and_moe(false, "pattern { first: 1 }");
  config.mutable_mtp()->set_depth(2);
  config.mutable_mtp()->set_loss_weight(0.7);
  TransformerRun run(config, Recompute::kNone, 1);
  EXPECT_EQ(run.transformer().moe_layers().size(), 4u);
  run.check_gradients();
}

TEST(TransformerGradient, ADenseModuleWithLayerNormAndATiedHead) {
  TransformerRun run(model_config(
      "vocab_size: 11 d_model: 6 layers: 1 ffn { d_ff: 4 } norm { kind: LAYERNORM } tied_head: true"
      " attention { heads: 1 head_dim: 6 } mtp { depth: 1 }"));
  run.check_gradients();
}

TEST(TransformerGradient, ASlidingWindow) {
  const std::string model = "vocab_size: 11 d_model: 6 layers: 2 ffn { d_ff: 4 } ";
  for (const char* attention :
       {"attention { heads: 2 kv_heads: 1 head_dim: 4 sliding_window: 3 } mtp { depth: 1 }",
        "attention { heads: 2 sliding_window: 2 latent { kv_lora_rank: 4 nope_head_dim: 2"
        "  rope_head_dim: 2 v_head_dim: 3 } }"}) {
    TransformerRun run(model_config(model + attention));
    run.check_gradients();
  }
}

TEST(TransformerGradient, DenseWithLayerNorm) {
  TransformerRun run(
      model_config("vocab_size: 11 d_model: 6 layers: 2 ffn { d_ff: 4 } norm { kind: LAYERNORM }"
                   "attention { heads: 1 head_dim: 6 qkv_bias: true out_bias: true }"));
  run.check_gradients();
}

TEST(Transformer, EveryLevelOfRecomputeGivesTheSameBits) {
  configs::ModelConfig config = dense_and_moe(false, "pattern { first: 1 }");
  config.mutable_mtp()->set_depth(2);
  TransformerRun keep(config);
  const double loss = keep.run();
  const std::size_t all = keep.transformer().arenas().saved.bytes_high_water();
  for (const Recompute recompute :
       {Recompute::kMoeActivation, Recompute::kMoeLayer, Recompute::kLayer}) {
    TransformerRun again(config, recompute);
    EXPECT_EQ(again.run(), loss);
    EXPECT_EQ(again.model().gradients(), keep.model().gradients());
    EXPECT_EQ(again.counts(), keep.counts());
    EXPECT_LT(again.transformer().arenas().saved.bytes_high_water(), all);
  }
}

// Two layers with windows of 3 see 4 tokens back, and not one more; documents end them as before.
TEST(Transformer, AWindowHidesWhatIsFurtherBack) {
  Model model(
      model_config("vocab_size: 11 d_model: 6 layers: 2 ffn { d_ff: 4 }"
                   " attention { heads: 2 head_dim: 4 sliding_window: 3 }"));
  Transformer transformer(model.config, model.params, model.exchange, {}, {});
  const auto last_logits = [&](std::size_t changed) {
    TokenBatch tokens(2, 8, kVocab, 6);  // the second sequence begins anew at its token 6
    tokens.tokens[changed] = (tokens.tokens[changed] + 1) % static_cast<std::int32_t>(kVocab);
    transformer.forward(tokens.batch);
    std::vector<double> z(2 * kVocab);
    transformer.logits(7, 1, view_of(z.data(), {1, kVocab}));
    transformer.logits(15, 1, view_of(z.data() + kVocab, {1, kVocab}));
    return z;
  };
  const auto first = [](const std::vector<double>& z) {
    return std::vector<double>(z.begin(), z.begin() + kVocab);
  };
  const auto second = [](const std::vector<double>& z) {
    return std::vector<double>(z.begin() + kVocab, z.end());
  };
  EXPECT_EQ(first(last_logits(2)), first(last_logits(1))) << "5 and 6 tokens back";
  EXPECT_NE(first(last_logits(3)), first(last_logits(2))) << "4 tokens back";
  EXPECT_EQ(second(last_logits(13)), second(last_logits(12))) << "another document";
  EXPECT_NE(second(last_logits(14)), second(last_logits(13)));
}

TEST(Transformer, ForwardAloneGivesTheLossesOfTraining) {
  TransformerRun run(dense_and_moe(false, ""));
  run.run();
  Transformer& transformer = run.transformer();
  const Batch& batch = run.tokens().batch;
  transformer.forward_train(batch);
  const double trained = transformer.backward(batch, 0.0);
  transformer.forward(batch);
  std::vector<double> losses(static_cast<std::size_t>(batch.rows()));
  EXPECT_EQ(transformer.losses(batch, view(losses, {batch.rows()})), trained);
  double sum = 0.0;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (run.tokens().targets[i] < 0) {
      EXPECT_EQ(losses[i], 0.0);
    }
    sum += losses[i];
  }
  EXPECT_NEAR(sum, trained, 1e-12 * trained);
}

TEST(Transformer, ABatchWithoutSequencesAddsNothing) {
  configs::ModelConfig config = dense_and_moe(true, "");
  config.mutable_mtp()->set_depth(1);
  TransformerRun run(config);
  run.run();
  const std::vector<std::vector<double>> gradients = run.model().gradients();
  const TokenBatch none(0, 6, kVocab);
  run.transformer().forward_train(none.batch);
  EXPECT_EQ(run.transformer().backward(none.batch, 1.0), 0.0);
  EXPECT_EQ(run.model().gradients(), gradients);
  run.transformer().forward(none.batch, Transformer::Mtp::kYes);
  run.transformer().count_mtp_losses();
  EXPECT_EQ(run.transformer().mtp_stats()[0].loss, 0.0);
}

}  // namespace
}  // namespace witan::test
