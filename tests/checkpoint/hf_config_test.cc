// config.json: what is read, what is written, what is refused and why.
#include "launch/checkpoint/hf_config.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/config_diff.h"
#include "tests/checkpoint/checkpoint_case.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/thrown.h"

namespace witan {
namespace {

using nlohmann::json;

// config.json of mistralai/Mixtral-8x7B-v0.1.
json mixtral_8x7b() {
  return json::parse(R"({
    "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mixtral",
    "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": false,
    "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
    "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0.dev0", "use_cache": true, "vocab_size": 32000 })");
}

// config.json of TinyLlama/TinyLlama-1.1B-Chat-v1.0.
json tiny_llama() {
  return json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
    "intermediate_size": 5632, "max_position_embeddings": 2048, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 22, "num_key_value_heads": 4,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "transformers_version": "4.35.0", "use_cache": true, "vocab_size": 32000 })");
}

configs::ModelConfig read(const json& config) {
  return model_from_hf_config(config.dump(), "config.json");
}

std::string error_of(const json& config) {
  return user_error_of([&] { read(config); });
}

json changed(json config, const char* key, const json& value) {
  config[key] = value;
  return config;
}

TEST(HfConfigTest, Mixtral8x7b) {
  const configs::ModelConfig model = read(mixtral_8x7b());
  const ParamTable table(model);
  EXPECT_EQ(table.total_parameters(), 46'702'792'704);   // moe_math section 5
  EXPECT_EQ(table.active_parameters(), 12'879'925'248);  // moe_math section 5
  EXPECT_EQ(model.attention().kv_heads(), 8);
  EXPECT_EQ(model.attention().rope_theta(), 1e6);
  EXPECT_EQ(model.max_seq_len(), 32768);
  EXPECT_EQ(model.norm().eps(), 1e-5);
  EXPECT_EQ(model.moe().router().weights(), configs::RouterConfig::RENORMALIZED);
  EXPECT_FALSE(model.tied_head());
}

TEST(HfConfigTest, TinyLlama) {
  const configs::ModelConfig model = read(tiny_llama());
  EXPECT_FALSE(model.has_moe());
  EXPECT_EQ(model.ffn().d_ff(), 5632);
  EXPECT_EQ(ParamTable(model).total_parameters(), 1'100'048'384);  // the model's name: 1.1B
}

TEST(HfConfigTest, OptionalFields) {
  json config = tiny_llama();
  config["attention_bias"] = true;
  config["tie_word_embeddings"] = true;
  config["head_dim"] = 96;
  config["initializer_range"] = 0.5;
  config.erase("num_key_value_heads");
  config.erase("rms_norm_eps");
  const configs::ModelConfig model = read(config);
  EXPECT_TRUE(model.attention().qkv_bias());
  EXPECT_TRUE(model.attention().out_bias());
  EXPECT_TRUE(model.tied_head());
  EXPECT_EQ(model.attention().head_dim(), 96);
  EXPECT_EQ(model.attention().kv_heads(), 32);
  EXPECT_EQ(model.norm().eps(), 1e-6);  // the default of LlamaConfig
  EXPECT_EQ(model.init_std(), 0.5);
}

TEST(HfConfigTest, RopeOfTransformers5) {
  json config = mixtral_8x7b();
  config.erase("rope_theta");
  EXPECT_EQ(read(config).attention().rope_theta(), 1e6);  // the default of MixtralConfig
  config["rope_parameters"] = {{"rope_theta", 5e5}, {"rope_type", "default"}};
  EXPECT_EQ(read(config).attention().rope_theta(), 5e5);
  config["rope_parameters"]["rope_type"] = "yarn";
  EXPECT_TRUE(contains(error_of(config), "rope_parameters: found"));
}

TEST(HfConfigTest, WhatIsNotSupportedIsNamedAllAtOnce) {
  json config = mixtral_8x7b();
  config["hidden_act"] = "gelu";
  config["sliding_window"] = -1;
  config["attention_dropout"] = 0.1;
  config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2.0}};
  config["num_experts_per_tok"] = 9;
  config.erase("vocab_size");
  const std::string message = error_of(config);
  for (const char* part :
       {"hidden_act: found \"gelu\"; expected \"silu\"", "sliding_window: found -1",
        "attention_dropout: found 0.1", "rope_scaling: found {\"factor\":2.0,\"type\":\"dynamic\"}",
        "num_experts_per_tok: found 9", "at most num_local_experts (8)", "vocab_size: missing"}) {
    EXPECT_TRUE(contains(message, part)) << part << "\n" << message;
  }
}

TEST(HfConfigTest, Refusals) {
  const json llama = tiny_llama(), mixtral = mixtral_8x7b();
  EXPECT_TRUE(contains(error_of(changed(llama, "mlp_bias", true)), "mlp_bias: found true"));
  EXPECT_TRUE(contains(error_of(changed(llama, "model_type", "gpt2")), "\"gpt2\""));
  EXPECT_TRUE(contains(error_of(changed(llama, "model_type", nullptr)), "model_type is missing"));
  EXPECT_TRUE(contains(error_of(changed(llama, "hidden_size", "big")), "hidden_size: found"));
  EXPECT_TRUE(contains(error_of(changed(llama, "hidden_size", -1)), "a whole number from 1"));
  EXPECT_TRUE(contains(error_of(changed(llama, "hidden_size", 2049)), "hidden_size: found 2049"));
  EXPECT_TRUE(contains(error_of(changed(llama, "num_key_value_heads", 5)), "must divide"));
  EXPECT_TRUE(contains(error_of(changed(llama, "tie_word_embeddings", 1)), "true or false"));
  EXPECT_TRUE(contains(error_of(changed(llama, "rms_norm_eps", "x")), "expected a number"));
  EXPECT_TRUE(contains(error_of(changed(mixtral, "router_jitter_noise", 0.1)), "router_jitter"));
  EXPECT_TRUE(contains(error_of(changed(mixtral, "quantization_config", json::object())),
                       "quantization_config"));
  EXPECT_NO_THROW(read(changed(mixtral, "sliding_window", 32768)));  // hides nothing
  EXPECT_TRUE(contains(user_error_of([] { model_from_hf_config("[]", "config.json"); }),
                       "config.json: expected a JSON object"));
}

// Ranges and combinations that ModelConfig has rules for.
TEST(HfConfigTest, RangesAreChecked) {
  const ScratchFolder scratch;
  write_text_file(scratch / "config.json", changed(tiny_llama(), "rms_norm_eps", 2.0).dump());
  EXPECT_USER_ERROR(read_model_config(scratch.path()), "model.norm.eps");
}

TEST(HfConfigTest, WrittenAndReadAgain) {
  for (const configs::RunConfig& run : {mixtral_run(), llama_run()}) {
    const std::string text = hf_config_json(run.model());
    ASSERT_FALSE(text.empty());
    const configs::ModelConfig again = read(json::parse(text));
    for (const ConfigDifference& difference : config_differences(run.model(), again, run.name())) {
      // Defaults that depend on other fields are written out.
      EXPECT_TRUE(contains(difference.field, "kv_heads") || contains(difference.field, "head_dim"))
          << difference.field << ": " << difference.left << " and " << difference.right;
    }
    EXPECT_EQ(hf_config_json(again), text);
    EXPECT_EQ(ParamTable(again).total_parameters(), ParamTable(run.model()).total_parameters());
  }
}

TEST(HfConfigTest, DtypeOfTheWeights) {
  const std::string text = hf_config_json(llama_run().model());
  EXPECT_EQ(json::parse(with_dtype(text, StDType::kBF16))["torch_dtype"], "bfloat16");
  EXPECT_EQ(json::parse(with_dtype(text, StDType::kF32))["torch_dtype"], "float32");
}

// One change at a time takes Mixtral or Llama away from what `transformers` has.
TEST(HfConfigTest, WhatTransformersDoesNotHave) {
  const auto why = [](const configs::RunConfig& run, const std::string& change) {
    configs::ModelConfig model = run.model();
    EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(change, &model)) << change;
    std::string reason;
    EXPECT_EQ(hf_config_json(model, &reason), "");
    return reason;
  };
  EXPECT_TRUE(contains(why(mixtral_run(), "norm { kind: LAYERNORM }"), "norm.kind"));
  EXPECT_TRUE(contains(why(mixtral_run(), "attention { qk_norm: true }"), "qk_norm"));
  EXPECT_TRUE(contains(why(mixtral_run(), "attention { qkv_bias: true }"), "biases"));
  EXPECT_TRUE(
      contains(why(mixtral_run(), "moe { pattern { first: 1 } } ffn { d_ff: 8 }"), "moe.pattern"));
  EXPECT_TRUE(contains(why(mixtral_run(), "moe { expert_kind: SILU }"), "expert_kind"));
  EXPECT_TRUE(contains(why(mixtral_run(), "moe { shared_d_ff: 8 }"), "shared_d_ff"));
  EXPECT_TRUE(contains(why(mixtral_run(), "moe { router { score: SIGMOID } }"), "router.score"));
  EXPECT_TRUE(contains(why(mixtral_run(), "moe { router { bias: true } }"), "router.bias"));
  EXPECT_TRUE(contains(why(mixtral_run(), "moe { router { weights: AS_IS } }"), "router.weights"));
  EXPECT_TRUE(contains(why(mixtral_run(), "moe { router { routed_scaling_factor: 2 } }"),
                       "routed_scaling_factor"));
  EXPECT_TRUE(contains(why(mixtral_run(), "moe { balance { expert_bias {} } }"), "expert_bias"));
  EXPECT_TRUE(contains(why(llama_run(), "attention { out_bias: false }"), "only one of"));
}

}  // namespace
}  // namespace witan
