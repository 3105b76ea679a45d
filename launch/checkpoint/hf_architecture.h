// Architectures of `transformers` that are Witan models: one entry each, in a file of its own.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "configs/schema/model.pb.h"
#include "launch/checkpoint/hf_config_reader.h"

namespace witan {

struct HfArchitecture {
  const char* model_type;  // "mixtral"
  const char* class_name;  // "MixtralForCausalLM"
  const char* title;       // "Mixtral"
  // config.json to the model.
  void (*read)(HfConfigReader& in, configs::ModelConfig& model);
  // What keeps a model from being one of these, a clause each; nothing if it is one.
  void (*check)(const configs::ModelConfig& model, std::vector<std::string>& obstacles);
  // The keys of config.json but for architectures and model_type.
  void (*write)(const configs::ModelConfig& model, nlohmann::ordered_json& json);
};

// In the order in which a model is tried against them.
const std::vector<HfArchitecture>& hf_architectures();

extern const HfArchitecture kHfLlama, kHfMistral, kHfMixtral, kHfQwen2Moe, kHfOlmoe, kHfDeepseekV2,
    kHfDeepseekV3;

// What the architectures share.
struct HfDefaults {
  std::int64_t max_seq_len;
  double norm_eps;
  double rope_theta;
};
// Sizes, norm, rope, heads (of plain attention). `defaults` of the class for absent keys.
void read_hf_common(HfConfigReader& in, const HfDefaults& defaults, configs::ModelConfig& model);
void read_hf_plain_heads(HfConfigReader& in, configs::ModelConfig& model);
// num_experts_per_tok against the number of experts under `experts_key`.
std::int64_t read_hf_top_k(HfConfigReader& in, const char* experts_key, std::int64_t experts);
// A window that hides nothing of a sequence of max_seq_len is none.
void read_hf_window(std::int64_t window, configs::ModelConfig& model);
// "sliding_window"
void write_hf_window(const configs::ModelConfig& model, nlohmann::ordered_json& json);

void check_hf_common(const configs::ModelConfig& model, std::vector<std::string>& obstacles);
// No latents, no norms of queries and keys, no biases: what most architectures lack.
void check_hf_plain_attention(const configs::ModelConfig& model,
                              std::vector<std::string>& obstacles);
// SwiGLU experts without biases, a plain router of that score, some MoE layer.
void check_hf_moe(const configs::ModelConfig& model, configs::RouterConfig::Score score,
                  std::vector<std::string>& obstacles);
// top_k, weights that norm_topk_prob can say, no scaling factor.
void check_hf_top_k(const configs::ModelConfig& model, std::vector<std::string>& obstacles);
void check_hf_every_layer_sparse(const configs::ModelConfig& model,
                                 std::vector<std::string>& obstacles);
void check_hf_no_shared_expert(const configs::ModelConfig& model,
                               std::vector<std::string>& obstacles);
void check_hf_no_expert_bias(const configs::ModelConfig& model,
                             std::vector<std::string>& obstacles);

nlohmann::ordered_json hf_common_json(const configs::ModelConfig& model);
// num_experts, num_experts_per_tok, norm_topk_prob.
void write_hf_top_k(const configs::ModelConfig& model, nlohmann::ordered_json& json);
void write_hf_plain_heads(const configs::ModelConfig& model, nlohmann::ordered_json& json);

}  // namespace witan
