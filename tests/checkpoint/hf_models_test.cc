// config.json of published models: what becomes of them, and what is refused.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/model/param_table.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/config_diff.h"
#include "launch/checkpoint/hf_config.h"
#include "tests/checkpoint/thrown.h"

namespace witan {
namespace {

using nlohmann::json;

// The keys that say what the model computes, as the published folders have them.
json deepseek_v3() {
  return json::parse(R"({
    "model_type": "deepseek_v3", "attention_bias": false, "first_k_dense_replace": 3,
    "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02,
    "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256,
    "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06, "rope_theta": 10000,
    "quantization_config": { "activation_scheme": "dynamic", "fmt": "e4m3",
      "quant_method": "fp8", "weight_block_size": [128, 128] },
    "rope_scaling": { "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
      "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn" },
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": false,
    "topk_group": 4, "topk_method": "noaux_tc", "v_head_dim": 128, "vocab_size": 129280 })");
}

json deepseek_v2_lite() {
  return json::parse(R"({
    "model_type": "deepseek_v2", "attention_bias": false, "aux_loss_alpha": 0.001,
    "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 2048,
    "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64,
    "n_shared_experts": 2, "norm_topk_prob": false, "num_attention_heads": 16,
    "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16,
    "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
    "rope_scaling": { "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
      "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096, "type": "yarn" },
    "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax",
    "seq_aux": true, "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy",
    "v_head_dim": 128, "vocab_size": 102400 })");
}

json qwen1_5_moe() {
  return json::parse(R"({
    "model_type": "qwen2_moe", "attention_dropout": 0.0, "decoder_sparse_step": 1,
    "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
    "intermediate_size": 5632, "max_position_embeddings": 8192, "max_window_layers": 21,
    "moe_intermediate_size": 1408, "norm_topk_prob": false, "num_attention_heads": 16,
    "num_experts": 60, "num_experts_per_tok": 4, "num_hidden_layers": 24,
    "num_key_value_heads": 16, "output_router_logits": false, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 5632, "sliding_window": 32768,
    "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 151936 })");
}

json olmoe() {
  return json::parse(R"({
    "model_type": "olmoe", "attention_bias": false, "attention_dropout": 0.0, "clip_qkv": null,
    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 1024,
    "max_position_embeddings": 4096, "norm_topk_prob": false, "num_attention_heads": 16,
    "num_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 16,
    "num_key_value_heads": 16, "rms_norm_eps": 1e-05, "rope_scaling": null,
    "rope_theta": 10000.0, "tie_word_embeddings": false, "vocab_size": 50304 })");
}

json mistral() {
  return json::parse(R"({
    "model_type": "mistral", "attention_dropout": 0.0, "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
    "sliding_window": null, "tie_word_embeddings": false, "vocab_size": 32000 })");
}

configs::ModelConfig read(const json& config) {
  return model_from_hf_config(config.dump(), "config.json");
}

std::string error_of(json config, const char* key, const json& value) {
  config[key] = value;
  return user_error_of([&] { read(config); });
}

json without(json config, const char* key) {
  config.erase(key);
  return config;
}

TEST(HfModels, ParametersOfThePublishedModels) {
  EXPECT_EQ(ParamTable(read(deepseek_v3())).total_parameters(), 671'026'404'352);
  EXPECT_EQ(ParamTable(read(deepseek_v2_lite())).total_parameters(), 15'706'484'224);
  EXPECT_EQ(ParamTable(read(qwen1_5_moe())).total_parameters(), 14'315'784'192);
  EXPECT_EQ(ParamTable(read(olmoe())).total_parameters(), 6'919'161'856);
  EXPECT_EQ(ParamTable(read(mistral())).total_parameters(), 7'241'732'096);
}

TEST(HfModels, WhatIsReadIsWrittenAgain) {
  for (const json& config :
       {deepseek_v3(), deepseek_v2_lite(), qwen1_5_moe(), olmoe(), mistral()}) {
    const auto type = config["model_type"].get<std::string>();
    SCOPED_TRACE(type);
    const configs::ModelConfig model = read(config);
    const json written = json::parse(hf_config_json(model, nullptr, type));
    EXPECT_EQ(written["model_type"], type);
    for (const auto& [key, value] : config.items()) {
      // Keys of training, of storage, or written in another form.
      static const std::set<std::string> kOther = {
          "aux_loss_alpha", "seq_aux",          "router_aux_loss_coef", "quantization_config",
          "rope_scaling",   "n_group",          "topk_group",           "num_nextn_predict_layers",
          "sliding_window", "max_window_layers"};
      if (kOther.count(key) > 0) continue;
      EXPECT_EQ(written[key], value) << key;
    }
    for (const ConfigDifference& difference : config_differences(model, read(written), "model")) {
      if (difference.field == "model.attention.head_dim" && difference.left == "(absent)") {
        EXPECT_EQ(difference.right, std::to_string(ModelDims(model).head_dim));  // written out
        continue;
      }
      ADD_FAILURE() << difference.field << ": " << difference.left << " became "
                    << difference.right;
    }
  }
}

TEST(HfModels, MistralIsWrittenAsLlamaUnlessAskedFor) {
  const configs::ModelConfig model = read(mistral());
  EXPECT_EQ(json::parse(hf_config_json(model))["model_type"], "llama");
  std::string why;
  EXPECT_EQ(hf_config_json(model, &why, "olmoe"), "");
  EXPECT_TRUE(contains(why, "not a OLMoE model: there is no MoE layer")) << why;
  EXPECT_EQ(hf_config_json(model, &why, "gpt2"), "");
  EXPECT_TRUE(contains(why, "\"gpt2\" is not one of \"llama\", \"mistral\"")) << why;
}

TEST(HfModels, DenseLayersOfQwen) {
  json config = qwen1_5_moe();
  config["decoder_sparse_step"] = 2;
  config["mlp_only_layers"] = {1, 2};
  const ModelDims dims(read(config));
  for (std::size_t i = 0; i < 24; ++i) EXPECT_EQ(dims.is_moe[i], i % 2 == 1 && i != 1) << i;
  EXPECT_EQ(dims.dense_ff, 5632);
  EXPECT_TRUE(contains(error_of(qwen1_5_moe(), "mlp_only_layers", {24}), "mlp_only_layers: found"));
  EXPECT_TRUE(contains(error_of(qwen1_5_moe(), "use_sliding_window", true), "use_sliding_window"));
}

TEST(HfModels, WindowOfMistral) {
  json config = mistral();
  EXPECT_FALSE(read(config).attention().has_sliding_window());
  config["sliding_window"] = 4096;
  const configs::ModelConfig model = read(config);
  EXPECT_EQ(model.attention().sliding_window(), 4096);
  // The class has a window where the key is absent.
  EXPECT_EQ(read(without(mistral(), "sliding_window")).attention().sliding_window(), 4096);
  // Llama has none, so that it is written as what it is.
  const json written = json::parse(hf_config_json(model));
  EXPECT_EQ(written["model_type"], "mistral");
  EXPECT_EQ(written["sliding_window"], 4096);
  std::string why;
  EXPECT_EQ(hf_config_json(model, &why, "llama"), "");
  EXPECT_TRUE(contains(why, "model.attention.sliding_window is set")) << why;
  config["max_position_embeddings"] = 4096;
  EXPECT_FALSE(read(config).attention().has_sliding_window()) << "it hides nothing";
}

TEST(HfModels, DefaultsOfDeepseek) {
  EXPECT_EQ(read(without(deepseek_v2_lite(), "q_lora_rank")).attention().latent().q_lora_rank(),
            1536);
  EXPECT_EQ(read(deepseek_v2_lite()).attention().latent().q_lora_rank(), 0);
  EXPECT_EQ(read(without(deepseek_v3(), "n_group")).moe().router().group_limited().n_group(), 8);
  json v2 = deepseek_v2_lite();
  v2["topk_method"] = "group_limited_greedy";
  v2["n_group"] = 8;
  v2["topk_group"] = 3;
  EXPECT_EQ(read(v2).moe().router().group_limited().group_top(), 1);
}

TEST(HfModels, WrongFieldsAreNamed) {
  const auto v3 = [](const char* key, const json& value) {
    return error_of(deepseek_v3(), key, value);
  };
  EXPECT_TRUE(contains(v3("attention_bias", true), "attention_bias: found true"));
  EXPECT_TRUE(contains(v3("num_key_value_heads", 8), "expected num_attention_heads (128)"));
  EXPECT_TRUE(contains(v3("moe_layer_freq", 2), "moe_layer_freq: found 2; expected 1"));
  EXPECT_TRUE(contains(v3("first_k_dense_replace", 61), "less than num_hidden_layers (61)"));
  EXPECT_TRUE(contains(v3("scoring_func", "softmax"), "expected \"sigmoid\""));
  EXPECT_TRUE(contains(v3("num_experts_per_tok", 257), "at most n_routed_experts (256)"));
  EXPECT_TRUE(contains(v3("n_routed_experts", nullptr), "n_routed_experts: missing"));
  EXPECT_TRUE(contains(v3("rope_scaling", {{"type", "yarn"}}), "factor: missing"));
  EXPECT_TRUE(contains(v3("rope_scaling", {{"type", "longrope"}}), "expected \"default\""));
  EXPECT_TRUE(contains(v3("rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"beta_fast", 3}}),
                       "beta_fast: unknown to rope_type \"linear\""));
  EXPECT_TRUE(contains(v3("quantization_config", {{"quant_method", "awq"}}),
                       "expected null, or quant_method \"fp8\""));
  EXPECT_TRUE(contains(error_of(deepseek_v2_lite(), "topk_method", "noaux_tc"), "\"greedy\""));
  EXPECT_TRUE(contains(error_of(deepseek_v2_lite(), "norm_topk_prob", true), "norm_topk_prob"));
  EXPECT_TRUE(contains(error_of(olmoe(), "clip_qkv", 8.0), "clip_qkv: found 8.0"));
  EXPECT_TRUE(contains(error_of(olmoe(), "head_dim", 64), "hidden_size / num_attention_heads"));
  EXPECT_TRUE(contains(error_of(qwen1_5_moe(), "num_experts", -1), "a whole number from 1"));
}

// One change at a time takes a model away from what `transformers` has.
TEST(HfModels, WhatTransformersDoesNotHave) {
  const auto why = [](const json& config, const std::string& change) {
    configs::ModelConfig model = read(config);
    EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(change, &model)) << change;
    std::string reason;
    EXPECT_EQ(hf_config_json(model, &reason), "") << change;
    return reason;
  };
  EXPECT_TRUE(contains(why(deepseek_v3(), "attention { latent { norm_eps: 1e-5 } }"), "norm_eps"));
  EXPECT_TRUE(contains(why(deepseek_v3(), "moe { shared_d_ff: 100 }"), "shared_d_ff"));
  EXPECT_TRUE(contains(why(deepseek_v3(), "moe { router { top_p { p: 1 k_max: 2 } } }"),
                       "neither top_k nor group_limited"));
  EXPECT_TRUE(contains(why(deepseek_v2_lite(), "moe { router { weights: RENORMALIZED } }"),
                       "not a DeepSeek-V2 model: model.moe.router.weights"));
  EXPECT_TRUE(contains(why(deepseek_v2_lite(), "attention { latent { rope_interleaved: false } }"),
                       "rope_interleaved"));
  EXPECT_TRUE(contains(why(qwen1_5_moe(), "attention { out_bias: true }"), "out_bias"));
  EXPECT_TRUE(contains(why(olmoe(), "moe { shared_d_ff: 8 }"), "shared_d_ff"));
  EXPECT_TRUE(contains(why(olmoe(), "ffn { d_ff: 8 } moe { pattern { first: 1 } }"), "pattern"));
}

}  // namespace
}  // namespace witan
