#include <nlohmann/json.hpp>
#include <vector>

#include "core/model/param_table.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/hf_config.h"

namespace witan {
namespace {

using configs::ModelConfig;
using Json = nlohmann::ordered_json;

using Obstacles = std::vector<std::string>;

void check_common(const ModelConfig& model, Obstacles& obstacles) {
  if (model.norm().kind() != configs::NormConfig::RMSNORM) {
    obstacles.emplace_back("model.norm.kind is not RMSNORM");
  }
  if (model.attention().qk_norm()) obstacles.emplace_back("model.attention.qk_norm is set");
}

void check_llama(const ModelConfig& model, Obstacles& obstacles) {
  if (model.attention().qkv_bias() != model.attention().out_bias()) {
    obstacles.emplace_back("only one of model.attention.qkv_bias and out_bias is set");
  }
}

void check_mixtral(const ModelConfig& model, Obstacles& obstacles) {
  const configs::MoeConfig& moe = model.moe();
  const configs::RouterConfig& router = moe.router();
  const ModelDims dims(model);
  if (dims.moe_layers() != dims.layers) {
    obstacles.emplace_back("model.moe.pattern leaves some layers dense");
  }
  if (model.attention().qkv_bias() || model.attention().out_bias()) {
    obstacles.emplace_back("model.attention has biases");
  }
  if (moe.expert_kind() != configs::MoeConfig::SWIGLU) {
    obstacles.emplace_back("model.moe.expert_kind is not SWIGLU");
  }
  if (moe.expert_bias_terms()) obstacles.emplace_back("model.moe.expert_bias_terms is set");
  if (moe.has_allowed_experts()) obstacles.emplace_back("model.moe.allowed_experts is set");
  if (moe.has_swiglu()) obstacles.emplace_back("model.moe.swiglu is set");
  if (moe.shared_d_ff() > 0) obstacles.emplace_back("model.moe.shared_d_ff is not 0");
  if (router.score() != configs::RouterConfig::SOFTMAX) {
    obstacles.emplace_back("model.moe.router.score is not SOFTMAX");
  }
  if (router.bias()) obstacles.emplace_back("model.moe.router.bias is set");
  if (!router.has_top_k()) obstacles.emplace_back("model.moe.router.selection is not top_k");
  if (router.weights() != configs::RouterConfig::RENORMALIZED) {
    obstacles.emplace_back("model.moe.router.weights is not RENORMALIZED");
  }
  if (router.routed_scaling_factor() != 1.0) {
    obstacles.emplace_back("model.moe.router.routed_scaling_factor is not 1");
  }
  for (const configs::BalancerConfig& balancer : moe.balance()) {
    // It takes part in choosing the experts, also after training.
    if (balancer.has_expert_bias()) obstacles.emplace_back("model.moe.balance has an expert_bias");
  }
}

Json common_config(const ModelConfig& model, const ModelDims& dims) {
  Json json;
  json["vocab_size"] = dims.vocab;
  json["hidden_size"] = dims.d_model;
  json["num_hidden_layers"] = dims.layers;
  json["num_attention_heads"] = dims.heads;
  json["num_key_value_heads"] = dims.kv_heads;
  json["head_dim"] = dims.head_dim;
  json["hidden_act"] = "silu";
  json["max_position_embeddings"] = model.max_seq_len();
  json["initializer_range"] = model.init_std();
  json["rms_norm_eps"] = model.norm().eps();
  // transformers 4 reads the first, transformers 5 the second.
  json["rope_theta"] = model.attention().rope_theta();
  json["rope_parameters"] = {{"rope_theta", model.attention().rope_theta()},
                             {"rope_type", "default"}};
  json["tie_word_embeddings"] = model.tied_head();
  json["attention_dropout"] = 0.0;
  // The classes' defaults (1 and 2) would end generation at ids that mean something else here.
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  return json;
}

}  // namespace

std::string hf_config_json(const ModelConfig& model, std::string* why) {
  const ModelDims dims(model);
  const bool mixtral = dims.moe_layers() > 0;
  Obstacles obstacles;
  check_common(model, obstacles);
  if (mixtral) {
    check_mixtral(model, obstacles);
  } else {
    check_llama(model, obstacles);
  }
  if (!obstacles.empty()) {
    if (why != nullptr) {
      *why = mixtral ? "not a Mixtral model: " : "not a Llama model: ";
      for (std::size_t i = 0; i < obstacles.size(); ++i) *why += (i > 0 ? "; " : "") + obstacles[i];
    }
    return {};
  }

  Json json;
  json["architectures"] = {mixtral ? "MixtralForCausalLM" : "LlamaForCausalLM"};
  json["model_type"] = mixtral ? "mixtral" : "llama";
  json.update(common_config(model, dims));
  if (mixtral) {
    json["intermediate_size"] = dims.moe_ff;
    json["num_local_experts"] = dims.experts;
    json["num_experts_per_tok"] = dims.top_k;
    json["sliding_window"] = nullptr;
    json["router_jitter_noise"] = 0.0;
    json["output_router_logits"] = false;
  } else {
    json["intermediate_size"] = dims.dense_ff;
    json["attention_bias"] = model.attention().qkv_bias();
    json["mlp_bias"] = false;
  }
  return json.dump(2) + "\n";
}

std::string with_dtype(const std::string& config_json, StDType dtype) {
  Json json = Json::parse(config_json);
  const char* name = "float32";
  if (dtype == StDType::kF64) name = "float64";
  if (dtype == StDType::kF16) name = "float16";
  if (dtype == StDType::kBF16) name = "bfloat16";
  json["torch_dtype"] = name;
  return json.dump(2) + "\n";
}

}  // namespace witan
