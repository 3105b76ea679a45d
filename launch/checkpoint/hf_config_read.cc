#include <algorithm>
#include <limits>
#include <string>

#include "core/base/error.h"
#include "launch/checkpoint/hf_config.h"
#include "launch/checkpoint/strict_json.h"

namespace witan {
namespace {

using nlohmann::json;

// Takes values out of config.json and remembers everything that is wrong with them.
class ConfigReader {
 public:
  ConfigReader(const json& config, const std::string& path) : config_(config), path_(path) {}

  void refuse(const std::string& key, const std::string& right) {
    problems_ += "\n  " + key + ": found " + config_[key].dump() + "; " + right;
  }
  void missing(const std::string& key) { problems_ += "\n  " + key + ": missing"; }
  void problem(const std::string& text) { problems_ += "\n  " + text; }

  // Null, which `transformers` writes for "not set", counts as absent.
  bool has(const std::string& key) const {
    return config_.contains(key) && !config_[key].is_null();
  }
  const json& operator[](const std::string& key) const { return config_[key]; }

  // A positive whole number.
  std::int64_t size(const std::string& key) {
    if (!has(key)) {
      missing(key);
      return 0;
    }
    return size(key, 0);
  }
  std::int64_t size(const std::string& key, std::int64_t absent) {
    if (!has(key)) return absent;
    const json& value = config_[key];
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > 0 &&
        value.get<std::uint64_t>() <=
            static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return value.get<std::int64_t>();
    }
    refuse(key, "expected a whole number from 1");
    return absent;
  }

  double number(const std::string& key, double absent) {
    if (!has(key)) return absent;
    if (config_[key].is_number()) return config_[key].get<double>();
    refuse(key, "expected a number");
    return absent;
  }

  bool flag(const std::string& key, bool absent) {
    if (!has(key)) return absent;
    if (config_[key].is_boolean()) return config_[key].get<bool>();
    refuse(key, "expected true or false");
    return absent;
  }

  // Keys that change the result and that Witan does not have.
  void expect_absent(const std::string& key) {
    if (has(key)) refuse(key, "not supported; expected null");
  }
  void expect_false(const std::string& key) {
    if (has(key) && config_[key] != false) refuse(key, "not supported; expected false");
  }
  void expect_zero(const std::string& key) {
    if (number(key, 0.0) != 0.0) refuse(key, "not supported; expected 0");
  }

  void throw_problems() const {
    if (!problems_.empty()) {
      throw_user_error(path_, ": this model cannot be taken over:", problems_);
    }
  }

 private:
  const json& config_;
  const std::string& path_;
  std::string problems_;
};

// rope_theta stands at the top (transformers 4) or in rope_parameters (transformers 5).
double read_rope_theta(ConfigReader& in, double absent) {
  double theta = in.number("rope_theta", absent);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!in.has(key)) continue;
    const json& rope = in[key];
    const std::string right =
        "expected null, or an object with rope_type \"default\" and rope_theta: scaled rotary "
        "embeddings are not supported";
    if (!rope.is_object()) {
      in.refuse(key, right);
      continue;
    }
    bool plain = true;
    for (const auto& [name, value] : rope.items()) {
      const bool type = name == "rope_type" || name == "type";
      if (type && value == "default") continue;
      if (name == "rope_theta" && value.is_number()) {
        theta = value.get<double>();
        continue;
      }
      if (value.is_null()) continue;
      plain = false;
    }
    if (!plain) in.refuse(key, right);
  }
  return theta;
}

void read_common(ConfigReader& in, bool mixtral, configs::ModelConfig& model) {
  model.set_vocab_size(in.size("vocab_size"));
  model.set_d_model(in.size("hidden_size"));
  model.set_layers(in.size("num_hidden_layers"));
  model.set_max_seq_len(in.size("max_position_embeddings", mixtral ? 131072 : 2048));
  model.set_tied_head(in.flag("tie_word_embeddings", false));
  model.set_init_std(in.number("initializer_range", 0.02));
  model.mutable_norm()->set_kind(configs::NormConfig::RMSNORM);
  model.mutable_norm()->set_eps(in.number("rms_norm_eps", mixtral ? 1e-5 : 1e-6));

  configs::AttentionConfig& attention = *model.mutable_attention();
  attention.set_heads(in.size("num_attention_heads"));
  attention.set_kv_heads(
      in.size("num_key_value_heads", std::max<std::int64_t>(1, attention.heads())));
  if (in.has("head_dim")) attention.set_head_dim(in.size("head_dim"));
  attention.set_rope_theta(read_rope_theta(in, mixtral ? 1e6 : 1e4));

  if (in.has("hidden_act") && in["hidden_act"] != "silu") {
    in.refuse("hidden_act", "expected \"silu\"");
  }
  in.expect_zero("attention_dropout");
  in.expect_absent("quantization_config");
  if (in.has("partial_rotary_factor") && in.number("partial_rotary_factor", 1.0) != 1.0) {
    in.refuse("partial_rotary_factor", "not supported; expected 1");
  }
}

void read_llama(ConfigReader& in, configs::ModelConfig& model) {
  model.mutable_ffn()->set_d_ff(in.size("intermediate_size"));
  const bool bias = in.flag("attention_bias", false);
  model.mutable_attention()->set_qkv_bias(bias);
  model.mutable_attention()->set_out_bias(bias);
  in.expect_false("mlp_bias");
  in.expect_absent("sliding_window");
}

void read_mixtral(ConfigReader& in, configs::ModelConfig& model) {
  configs::MoeConfig& moe = *model.mutable_moe();
  moe.set_d_ff(in.size("intermediate_size"));
  moe.set_experts(in.size("num_local_experts"));
  moe.set_expert_kind(configs::MoeConfig::SWIGLU);
  configs::RouterConfig& router = *moe.mutable_router();
  router.set_score(configs::RouterConfig::SOFTMAX);
  router.set_weights(configs::RouterConfig::RENORMALIZED);
  router.mutable_top_k()->set_k(in.size("num_experts_per_tok"));
  if (router.top_k().k() > moe.experts() && moe.experts() > 0) {
    in.refuse("num_experts_per_tok",
              detail::concat("expected at most num_local_experts (", moe.experts(), ")"));
  }
  in.expect_zero("router_jitter_noise");
  in.expect_false("attention_bias");
  // A window at least as long as any sequence hides nothing.
  if (in.has("sliding_window") && in.size("sliding_window", 1) < model.max_seq_len()) {
    in.refuse("sliding_window",
              detail::concat("sliding-window attention is not supported; expected null or at least "
                             "max_position_embeddings (",
                             model.max_seq_len(), ")"));
  }
}

void check_heads(ConfigReader& in, const configs::ModelConfig& model) {
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

configs::ModelConfig model_from_hf_config(const std::string& text, const std::string& path) {
  const json config = parse_strict_json(text, path);
  if (!config.contains("model_type") || !config["model_type"].is_string()) {
    throw_user_error(path, ": model_type is missing; expected \"mixtral\" or \"llama\"");
  }
  const auto type = config["model_type"].get<std::string>();
  if (type != "mixtral" && type != "llama") {
    throw_user_error(
        path, ": model_type: found \"", type,
        "\"; expected \"mixtral\" or \"llama\": other architectures are not supported");
  }
  const bool mixtral = type == "mixtral";
  ConfigReader in(config, path);
  configs::ModelConfig model;
  read_common(in, mixtral, model);
  if (mixtral) {
    read_mixtral(in, model);
  } else {
    read_llama(in, model);
  }
  check_heads(in, model);
  in.throw_problems();
  return model;
}

}  // namespace witan
