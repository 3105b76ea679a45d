#include "launch/checkpoint/hf_architecture.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/model/param_table.h"
#include "launch/checkpoint/hf_rope.h"

namespace witan {

using configs::ModelConfig;
using Obstacles = std::vector<std::string>;

const std::vector<HfArchitecture>& hf_architectures() {
  static const std::vector<HfArchitecture> kAll = {
      kHfLlama, kHfMistral, kHfMixtral, kHfQwen2Moe, kHfOlmoe, kHfDeepseekV2, kHfDeepseekV3};
  return kAll;
}

namespace {

// fp8 weights with block scales are taken over as the numbers they stand for.
void check_quantization(HfConfigReader& in) {
  const char* key = "quantization_config";
  if (!in.has(key)) return;
  const nlohmann::json& config = in[key];
  const auto is = [&](const char* name, const nlohmann::json& value) {
    return config.contains(name) && config[name] == value;
  };
  const bool fp8 = config.is_object() && is("quant_method", "fp8") &&
                   is("weight_block_size", {128, 128}) &&
                   (!config.contains("fmt") || is("fmt", "e4m3"));
  if (!fp8) {
    in.refuse(key,
              "expected null, or quant_method \"fp8\" with fmt \"e4m3\" and weight_block_size "
              "[128, 128]");
  }
}

void check_heads(HfConfigReader& in, const ModelConfig& model) {
  const configs::AttentionConfig& attention = model.attention();
  const std::int64_t heads = attention.heads();
  if (heads == 0 || model.d_model() == 0) return;  // reported above
  if (heads % attention.kv_heads() != 0) {
    in.problem(detail::concat("num_key_value_heads: found ", attention.kv_heads(),
                              "; must divide num_attention_heads (", heads, ")"));
  }
  if (!attention.has_head_dim() && model.d_model() % heads != 0) {
    in.problem(detail::concat("hidden_size: found ", model.d_model(),
                              "; must be a multiple of num_attention_heads (", heads,
                              ") where head_dim is absent"));
  }
}

}  // namespace

void read_hf_common(HfConfigReader& in, const HfDefaults& defaults, ModelConfig& model) {
  model.set_vocab_size(in.size("vocab_size"));
  model.set_d_model(in.size("hidden_size"));
  model.set_layers(in.size("num_hidden_layers"));
  model.set_max_seq_len(in.size("max_position_embeddings", defaults.max_seq_len));
  model.set_tied_head(in.flag("tie_word_embeddings", false));
  model.set_init_std(in.number("initializer_range", 0.02));
  model.mutable_norm()->set_kind(configs::NormConfig::RMSNORM);
  model.mutable_norm()->set_eps(in.number("rms_norm_eps", defaults.norm_eps));
  model.mutable_attention()->set_heads(in.size("num_attention_heads"));
  read_hf_rope(in, defaults.rope_theta, model);
  in.expect("hidden_act", "silu");
  in.expect_zero("attention_dropout");
  check_quantization(in);
  if (in.number("partial_rotary_factor", 1.0) != 1.0) {
    in.refuse("partial_rotary_factor", "not supported; expected 1");
  }
}

void read_hf_plain_heads(HfConfigReader& in, ModelConfig& model) {
  configs::AttentionConfig& attention = *model.mutable_attention();
  attention.set_kv_heads(
      in.size("num_key_value_heads", std::max<std::int64_t>(1, attention.heads())));
  if (in.has("head_dim")) attention.set_head_dim(in.size("head_dim"));
  check_heads(in, model);
}

std::int64_t read_hf_top_k(HfConfigReader& in, const char* experts_key, std::int64_t experts) {
  const std::int64_t k = in.size("num_experts_per_tok");
  if (k > experts && experts > 0) {
    in.refuse("num_experts_per_tok",
              detail::concat("expected at most ", experts_key, " (", experts, ")"));
  }
  return k;
}

void read_hf_window(std::int64_t window, ModelConfig& model) {
  // A longer one hides nothing.
  if (window < model.max_seq_len()) model.mutable_attention()->set_sliding_window(window);
}

void check_hf_common(const ModelConfig& model, Obstacles& obstacles) {
  if (model.norm().kind() != configs::NormConfig::RMSNORM) {
    obstacles.emplace_back("model.norm.kind is not RMSNORM");
  }
}

void check_hf_plain_attention(const ModelConfig& model, Obstacles& obstacles) {
  const configs::AttentionConfig& attention = model.attention();
  if (attention.has_latent()) obstacles.emplace_back("model.attention.latent is set");
  if (attention.qk_norm()) obstacles.emplace_back("model.attention.qk_norm is set");
  if (attention.qkv_bias() || attention.out_bias()) {
    obstacles.emplace_back("model.attention has biases");
  }
}

void check_hf_moe(const ModelConfig& model, configs::RouterConfig::Score score,
                  Obstacles& obstacles) {
  const configs::MoeConfig& moe = model.moe();
  if (ModelDims(model).moe_layers() == 0) obstacles.emplace_back("there is no MoE layer");
  if (moe.expert_kind() != configs::MoeConfig::SWIGLU) {
    obstacles.emplace_back("model.moe.expert_kind is not SWIGLU");
  }
  if (moe.expert_bias_terms()) obstacles.emplace_back("model.moe.expert_bias_terms is set");
  if (moe.has_allowed_experts()) obstacles.emplace_back("model.moe.allowed_experts is set");
  if (moe.has_zero_computation()) obstacles.emplace_back("model.moe.zero_computation is set");
  if (moe.has_swiglu()) obstacles.emplace_back("model.moe.swiglu is set");
  if (moe.router().score() != score) {
    obstacles.push_back("model.moe.router.score is not " +
                        configs::RouterConfig::Score_Name(score));
  }
  if (moe.router().bias()) obstacles.emplace_back("model.moe.router.bias is set");
}

void check_hf_top_k(const ModelConfig& model, Obstacles& obstacles) {
  const configs::RouterConfig& router = model.moe().router();
  if (!router.has_top_k()) obstacles.emplace_back("model.moe.router.selection is not top_k");
  if (router.weights() != configs::RouterConfig::RENORMALIZED &&
      router.weights() != configs::RouterConfig::AS_IS) {
    obstacles.emplace_back("model.moe.router.weights is neither RENORMALIZED nor AS_IS");
  }
  if (router.routed_scaling_factor() != 1.0) {
    obstacles.emplace_back("model.moe.router.routed_scaling_factor is not 1");
  }
}

void check_hf_every_layer_sparse(const ModelConfig& model, Obstacles& obstacles) {
  const ModelDims dims(model);
  if (dims.moe_layers() != dims.layers) {
    obstacles.emplace_back("model.moe.pattern leaves some layers dense");
  }
}

void check_hf_no_shared_expert(const ModelConfig& model, Obstacles& obstacles) {
  if (model.moe().shared_d_ff() > 0) obstacles.emplace_back("model.moe.shared_d_ff is not 0");
}

// It takes part in choosing the experts, also after training.
void check_hf_no_expert_bias(const ModelConfig& model, Obstacles& obstacles) {
  for (const configs::BalancerConfig& balancer : model.moe().balance()) {
    if (balancer.has_expert_bias()) obstacles.emplace_back("model.moe.balance has an expert_bias");
  }
}

nlohmann::ordered_json hf_common_json(const ModelConfig& model) {
  const ModelDims dims(model);
  nlohmann::ordered_json json;
  json["vocab_size"] = dims.vocab;
  json["hidden_size"] = dims.d_model;
  json["num_hidden_layers"] = dims.layers;
  json["num_attention_heads"] = dims.heads;
  json["num_key_value_heads"] = dims.kv_heads;
  json["hidden_act"] = "silu";
  json["max_position_embeddings"] = model.max_seq_len();
  json["initializer_range"] = model.init_std();
  json["rms_norm_eps"] = model.norm().eps();
  write_hf_rope(model, json);
  json["tie_word_embeddings"] = model.tied_head();
  json["attention_dropout"] = 0.0;
  // The classes' defaults (1 and 2) would end generation at ids that mean something else here.
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  return json;
}

void write_hf_top_k(const ModelConfig& model, nlohmann::ordered_json& json) {
  const ModelDims dims(model);
  json["num_experts"] = dims.experts;
  json["num_experts_per_tok"] = dims.top_k;
  json["norm_topk_prob"] = model.moe().router().weights() == configs::RouterConfig::RENORMALIZED;
}

void write_hf_window(const ModelConfig& model, nlohmann::ordered_json& json) {
  json["sliding_window"] = nullptr;
  if (model.attention().has_sliding_window()) {
    json["sliding_window"] = model.attention().sliding_window();
  }
}

void write_hf_plain_heads(const ModelConfig& model, nlohmann::ordered_json& json) {
  json["head_dim"] = ModelDims(model).head_dim;
}

}  // namespace witan
