// Attention, dense feed-forward and norms against central differences, in float64.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/model/attention_layer.h"
#include "core/model/ffn.h"
#include "core/model/latent_attention_layer.h"
#include "core/model/norm_layer.h"
#include "tests/model/model_case.h"

namespace witan::test {
namespace {

constexpr std::int64_t kWidth = 7;

template <class Layer = AttentionLayer>
void check_attention(const std::string& attention, std::int64_t sequences, std::int64_t seq_len,
                     std::int64_t document_begin) {
  SCOPED_TRACE(attention + ", " + std::to_string(sequences) + " x " + std::to_string(seq_len));
  Model model(model_config("vocab_size: 5 d_model: 7 layers: 1 attention { " + attention +
                           " } ffn { d_ff: 3 }"));
  const Layer layer(model.config, model.params, 0);
  const TokenBatch tokens(sequences, seq_len, 5, document_begin);
  const Shape shape{sequences * seq_len, kWidth};
  std::vector<double> x = normal_values(shape.size(), 1);
  std::vector<double> projection = normal_values(shape.size(), 2);
  std::vector<double> y(x.size()), dx(x.size());
  typename Layer::Saved saved;
  const auto loss = [&] {
    model.arenas.reset();
    if constexpr (requires { layer.allocate(model.context, view(x, shape), saved); }) {
      layer.allocate(model.context, view(x, shape), saved);
    }
    layer.forward(model.context, tokens.batch, view(x, shape), view(y, shape), saved);
    return project(y, projection);
  };
  loss();
  layer.backward(model.context, tokens.batch, view(projection, shape), view(x, shape), saved,
                 view(dx, shape));
  const std::vector<std::vector<double>> gradients = model.gradients();
  ASSERT_NO_FATAL_FAILURE(expect_gradient_of("x", view(x, shape), dx, loss));
  expect_parameter_gradients(
      model, gradients,
      [](const std::string& name) { return name.find(".attention.") != std::string::npos; }, loss);
}

TEST(AttentionGradient, Plain) {
  check_attention("heads: 2 head_dim: 4", 2, 5, 0);
  check_attention("heads: 1 head_dim: 2", 3, 1, 0);
}

TEST(AttentionGradient, GroupedQueriesBiasesAndQkNorm) {
  check_attention("heads: 4 kv_heads: 2 head_dim: 4 qkv_bias: true out_bias: true", 2, 5, 0);
  check_attention("heads: 3 kv_heads: 1 head_dim: 6 qk_norm: true rope_theta: 50", 2, 7, 0);
  check_attention("heads: 4 kv_heads: 2 head_dim: 4 qk_norm: true qkv_bias: true out_bias: true", 1,
                  9, 0);
}

TEST(AttentionGradient, DocumentsWithinASequence) {
  check_attention("heads: 4 kv_heads: 2 head_dim: 4 qk_norm: true qkv_bias: true", 3, 8, 3);
}

TEST(AttentionGradient, QkNormOverTheWholeProjection) {
  check_attention("heads: 2 head_dim: 4 qk_norm: true qk_norm_scope: PROJECTION", 2, 5, 0);
  check_attention(
      "heads: 4 kv_heads: 2 head_dim: 4 qk_norm: true qk_norm_scope: PROJECTION qkv_bias: true", 3,
      8, 3);
}

TEST(AttentionGradient, ScaledRope) {
  const std::string heads = "heads: 2 head_dim: 6 rope_theta: 20 rope_scaling ";
  check_attention(heads + "{ linear { factor: 3 } }", 2, 5, 0);
  check_attention(heads + "{ yarn { factor: 4 original_max_seq_len: 8 } }", 2, 7, 0);
  check_attention(heads + "{ llama3 { factor: 4 original_max_seq_len: 16 } }", 2, 7, 0);
}

constexpr const char* kLatent =
    " latent { kv_lora_rank: 5 nope_head_dim: 3 rope_head_dim: 4 v_head_dim: 6 ";

TEST(LatentAttentionGradient, WithAndWithoutQueryLatent) {
  check_attention<LatentAttentionLayer>(std::string("heads: 2") + kLatent + "}", 2, 5, 0);
  check_attention<LatentAttentionLayer>(std::string("heads: 3") + kLatent + "q_lora_rank: 4 }", 2,
                                        7, 0);
  check_attention<LatentAttentionLayer>(std::string("heads: 1") + kLatent + "}", 3, 1, 0);
}

TEST(LatentAttentionGradient, HalvesDocumentsAndYarn) {
  check_attention<LatentAttentionLayer>(
      std::string("heads: 3 rope_theta: 50 rope_scaling { yarn { factor: 4 original_max_seq_len: 8 "
                  "mscale: 0.7 mscale_all_dim: 1.2 } }") +
          kLatent + "q_lora_rank: 4 rope_interleaved: false }",
      3, 8, 3);
}

TEST(FfnGradient, SwiGlu) {
  for (const std::int64_t rows : {1, 9}) {
    Model model(model_config(
        "vocab_size: 5 d_model: 7 layers: 1 attention { heads: 1 head_dim: 2 } ffn { d_ff: 5 }"));
    const Ffn layer(model.params, "layers.0.ffn");
    const Shape shape{rows, kWidth};
    std::vector<double> x = normal_values(shape.size(), 1);
    std::vector<double> projection = normal_values(shape.size(), 2);
    std::vector<double> y(x.size()), dx(x.size());
    Ffn::Saved saved;
    const auto loss = [&] {
      model.arenas.reset();
      layer.forward({}, view(x, shape), view(y, shape), model.arenas.saved, saved);
      return project(y, projection);
    };
    loss();
    layer.backward({}, view(projection, shape), view(x, shape), saved, view(dx, shape),
                   model.arenas.scratch);
    const std::vector<std::vector<double>> gradients = model.gradients();
    ASSERT_NO_FATAL_FAILURE(expect_gradient_of("x", view(x, shape), dx, loss));
    expect_parameter_gradients(
        model, gradients,
        [](const std::string& name) { return name.find(".ffn.") != std::string::npos; }, loss);
  }
}

TEST(NormGradient, BothKindsOverwritingAndAccumulating) {
  for (const char* kind : {"RMSNORM", "LAYERNORM"}) {
    SCOPED_TRACE(kind);
    Model model(
        model_config("vocab_size: 5 d_model: 7 layers: 1 attention { heads: 1 head_dim: 2 }"
                     "ffn { d_ff: 5 } norm { kind: " +
                     std::string(kind) + " }"));
    const NormLayer layer(model.config.norm(), model.params, "final_norm");
    const Shape shape{5, kWidth};
    std::vector<double> x = normal_values(shape.size(), 1);
    std::vector<double> projection = normal_values(shape.size(), 2);
    std::vector<double> y(x.size()), dx(x.size());
    NormLayer::Saved saved;
    const auto loss = [&] {
      model.arenas.reset();
      layer.forward({}, view(x, shape), view(y, shape), model.arenas.saved, saved);
      return project(y, projection);
    };
    loss();
    layer.backward({}, view(projection, shape), view(x, shape), saved, view(dx, shape),
                   ops::Accumulate::kNo);
    const std::vector<std::vector<double>> gradients = model.gradients();
    std::vector<double> twice = dx;
    layer.backward({}, view(projection, shape), view(x, shape), saved, view(twice, shape),
                   ops::Accumulate::kYes);
    for (std::size_t i = 0; i < dx.size(); ++i) EXPECT_DOUBLE_EQ(twice[i], 2.0 * dx[i]);
    ASSERT_NO_FATAL_FAILURE(expect_gradient_of("x", view(x, shape), dx, loss));
    expect_parameter_gradients(
        model, gradients, [](const std::string& name) { return name.rfind("final_norm", 0) == 0; },
        loss);
  }
}

}  // namespace
}  // namespace witan::test
