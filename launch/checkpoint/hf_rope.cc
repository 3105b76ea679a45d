#include "launch/checkpoint/hf_rope.h"

#include <set>
#include <string>

namespace witan {
namespace {

using Json = nlohmann::ordered_json;

// The object under one key of config.json.
class RopeReader {
 public:
  RopeReader(HfConfigReader& in, const std::string& key, configs::ModelConfig& model)
      : in_(in), key_(key), rope_(in[key]), model_(model) {}

  void read() {
    if (!rope_.is_object()) return in_.refuse(key_, "expected null or an object");
    used_ = {"rope_type", "type", "rope_theta"};
    configs::AttentionConfig& attention = *model_.mutable_attention();
    if (has("rope_theta")) attention.set_rope_theta(number("rope_theta", 0.0));
    const std::string type = kind();
    if (type == "linear") {
      attention.mutable_rope_scaling()->mutable_linear()->set_factor(number("factor"));
    } else if (type == "yarn") {
      read_yarn(*attention.mutable_rope_scaling()->mutable_yarn());
    } else if (type == "llama3") {
      read_llama3(*attention.mutable_rope_scaling()->mutable_llama3());
    } else if (type != "default") {
      return in_.refuse(key_,
                        "rope_type: expected \"default\", \"linear\", \"yarn\" or "
                        "\"llama3\"; other rotary embeddings are not supported");
    }
    for (const auto& [name, value] : rope_.items()) {
      if (used_.count(name) == 0 && !value.is_null()) {
        in_.refuse(key_, name + ": unknown to rope_type \"" + type + "\"");
      }
    }
  }

 private:
  bool has(const char* name) const { return rope_.contains(name) && !rope_[name].is_null(); }

  std::string kind() const {
    for (const char* name : {"rope_type", "type"}) {
      if (has(name)) return rope_[name].is_string() ? rope_[name].get<std::string>() : "?";
    }
    return "default";
  }

  double number(const char* name) {
    if (!has(name)) {
      in_.refuse(key_, std::string(name) + ": missing");
      return 1.0;
    }
    return number(name, 1.0);
  }
  double number(const char* name, double absent) {
    used_.insert(name);
    if (!has(name)) return absent;
    if (rope_[name].is_number()) return rope_[name].get<double>();
    in_.refuse(key_, std::string(name) + ": expected a number");
    return absent;
  }

  std::int64_t original_length() {
    const char* name = "original_max_position_embeddings";
    used_.insert(name);
    if (!has(name)) return model_.max_seq_len();
    if (rope_[name].is_number_unsigned()) return rope_[name].get<std::int64_t>();
    in_.refuse(key_, std::string(name) + ": expected a whole number");
    return 1;
  }

  void read_yarn(configs::YarnRopeScaling& yarn) {
    yarn.set_factor(number("factor"));
    yarn.set_original_max_seq_len(original_length());
    yarn.set_beta_fast(number("beta_fast", yarn.beta_fast()));
    yarn.set_beta_slow(number("beta_slow", yarn.beta_slow()));
    yarn.set_mscale(number("mscale", 0.0));
    yarn.set_mscale_all_dim(number("mscale_all_dim", 0.0));
    if (has("attention_factor")) yarn.set_attention_factor(number("attention_factor"));
    used_.insert("truncate");
    if (has("truncate") && rope_["truncate"].is_boolean()) yarn.set_truncate(rope_["truncate"]);
  }

  void read_llama3(configs::Llama3RopeScaling& llama3) {
    llama3.set_factor(number("factor"));
    llama3.set_original_max_seq_len(original_length());
    llama3.set_low_freq_factor(number("low_freq_factor"));
    llama3.set_high_freq_factor(number("high_freq_factor"));
  }

  HfConfigReader& in_;
  std::string key_;
  const nlohmann::json& rope_;
  configs::ModelConfig& model_;
  std::set<std::string> used_;
};

Json yarn_json(const configs::YarnRopeScaling& yarn) {
  Json rope;
  rope["rope_type"] = "yarn";
  rope["factor"] = yarn.factor();
  rope["original_max_position_embeddings"] = yarn.original_max_seq_len();
  rope["beta_fast"] = yarn.beta_fast();
  rope["beta_slow"] = yarn.beta_slow();
  if (yarn.mscale() > 0.0) rope["mscale"] = yarn.mscale();
  if (yarn.mscale_all_dim() > 0.0) rope["mscale_all_dim"] = yarn.mscale_all_dim();
  if (yarn.has_attention_factor()) rope["attention_factor"] = yarn.attention_factor();
  if (!yarn.truncate()) rope["truncate"] = false;
  return rope;
}

Json llama3_json(const configs::Llama3RopeScaling& llama3) {
  return {{"rope_type", "llama3"},
          {"factor", llama3.factor()},
          {"original_max_position_embeddings", llama3.original_max_seq_len()},
          {"low_freq_factor", llama3.low_freq_factor()},
          {"high_freq_factor", llama3.high_freq_factor()}};
}

}  // namespace

void read_hf_rope(HfConfigReader& in, double absent, configs::ModelConfig& model) {
  model.mutable_attention()->set_rope_theta(in.number("rope_theta", absent));
  if (in.has("rope_scaling") && in.has("rope_parameters") &&
      in["rope_scaling"] != in["rope_parameters"]) {
    in.refuse("rope_scaling", "says something else than rope_parameters; remove one of the two");
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (in.has(key)) RopeReader(in, key, model).read();
  }
}

void write_hf_rope(const configs::ModelConfig& model, Json& json) {
  const configs::RopeScaling& scaling = model.attention().rope_scaling();
  Json rope = {{"rope_type", "default"}};
  if (scaling.has_linear()) rope = {{"rope_type", "linear"}, {"factor", scaling.linear().factor()}};
  if (scaling.has_yarn()) rope = yarn_json(scaling.yarn());
  if (scaling.has_llama3()) rope = llama3_json(scaling.llama3());
  rope["rope_theta"] = model.attention().rope_theta();
  json["rope_theta"] = model.attention().rope_theta();
  // transformers 4 reads the first, transformers 5 the second.
  if (scaling.kind_case() != configs::RopeScaling::KIND_NOT_SET) json["rope_scaling"] = rope;
  json["rope_parameters"] = rope;
}

}  // namespace witan
