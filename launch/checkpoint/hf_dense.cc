// Llama and Mistral: dense SwiGLU layers. They compute the same; Mistral has no biases and may have
// a window.
#include "launch/checkpoint/hf_architecture.h"

namespace witan {
namespace {

using configs::ModelConfig;

void read_llama(HfConfigReader& in, ModelConfig& model) {
  read_hf_common(in, {2048, 1e-6, 1e4}, model);
  read_hf_plain_heads(in, model);
  model.mutable_ffn()->set_d_ff(in.size("intermediate_size"));
  const bool bias = in.flag("attention_bias", false);
  model.mutable_attention()->set_qkv_bias(bias);
  model.mutable_attention()->set_out_bias(bias);
  in.expect_false("mlp_bias");
  in.expect_absent("sliding_window");
}

void read_mistral(HfConfigReader& in, ModelConfig& model) {
  constexpr std::int64_t kWindow = 4096;  // the class's default
  read_hf_common(in, {131072, 1e-6, 1e4}, model);
  read_hf_plain_heads(in, model);
  model.mutable_ffn()->set_d_ff(in.size("intermediate_size"));
  if (in.has("sliding_window") || !in.names("sliding_window")) {
    read_hf_window(in.size("sliding_window", kWindow), model);
  }
}

void check_dense(const ModelConfig& model, std::vector<std::string>& obstacles) {
  check_hf_common(model, obstacles);
  if (model.has_moe()) obstacles.emplace_back("model.moe is set");
}

void check_llama(const ModelConfig& model, std::vector<std::string>& obstacles) {
  const configs::AttentionConfig& attention = model.attention();
  check_dense(model, obstacles);
  if (attention.has_latent()) obstacles.emplace_back("model.attention.latent is set");
  if (attention.qk_norm()) obstacles.emplace_back("model.attention.qk_norm is set");
  if (attention.qkv_bias() != attention.out_bias()) {
    obstacles.emplace_back("only one of model.attention.qkv_bias and out_bias is set");
  }
}

void check_mistral(const ModelConfig& model, std::vector<std::string>& obstacles) {
  check_dense(model, obstacles);
  check_hf_plain_attention(model, obstacles);
}

void write_llama(const ModelConfig& model, nlohmann::ordered_json& json) {
  write_hf_plain_heads(model, json);
  json["intermediate_size"] = model.ffn().d_ff();
  json["attention_bias"] = model.attention().qkv_bias();
  json["mlp_bias"] = false;
}

void write_mistral(const ModelConfig& model, nlohmann::ordered_json& json) {
  write_hf_plain_heads(model, json);
  json["intermediate_size"] = model.ffn().d_ff();
  write_hf_window(model, json);
}

}  // namespace

const HfArchitecture kHfLlama = {"llama",    "LlamaForCausalLM", "Llama",
                                 read_llama, check_llama,        write_llama};
const HfArchitecture kHfMistral = {"mistral",    "MistralForCausalLM", "Mistral",
                                   read_mistral, check_mistral,        write_mistral};

}  // namespace witan
