#include "launch/checkpoint/hf_config.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <initializer_list>

#include "core/base/error.h"
#include "core/model/param_table.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/hf_architecture.h"
#include "launch/checkpoint/output_file.h"
#include "launch/checkpoint/strict_json.h"

namespace witan {
namespace {

using Json = nlohmann::ordered_json;

// The architecture that a model comes nearest to, to say what keeps it from being one.
const HfArchitecture& nearest(const configs::ModelConfig& model) {
  if (model.attention().has_latent()) {
    const bool sigmoid = model.moe().router().score() == configs::RouterConfig::SIGMOID;
    return sigmoid ? kHfDeepseekV3 : kHfDeepseekV2;
  }
  if (ModelDims(model).moe_layers() == 0) return kHfLlama;
  if (model.moe().shared_gate()) return kHfQwen2Moe;
  const bool whole = model.attention().qk_norm() &&
                     model.attention().qk_norm_scope() == configs::AttentionConfig::PROJECTION;
  return whole ? kHfOlmoe : kHfMixtral;
}

const HfArchitecture* find(const std::string& model_type) {
  for (const HfArchitecture& architecture : hf_architectures()) {
    if (model_type == architecture.model_type) return &architecture;
  }
  return nullptr;
}

std::string obstacles_to(const HfArchitecture& architecture, const configs::ModelConfig& model) {
  std::vector<std::string> obstacles;
  architecture.check(model, obstacles);
  const auto is_one_of = [&](std::initializer_list<HfArchitecture> others) {
    return std::any_of(others.begin(), others.end(), [&](const HfArchitecture& other) {
      return std::strcmp(architecture.model_type, other.model_type) == 0;
    });
  };
  if (model.has_mtp() && !is_one_of({kHfDeepseekV3})) {
    obstacles.emplace_back("model.mtp is set");
  }
  if (model.attention().has_sliding_window() && !is_one_of({kHfMistral, kHfMixtral})) {
    obstacles.emplace_back("model.attention.sliding_window is set");
  }
  std::string text;
  for (const std::string& obstacle : obstacles) text += (text.empty() ? "" : "; ") + obstacle;
  return text;
}

}  // namespace

std::string hf_model_types() {
  std::string all;
  for (const HfArchitecture& architecture : hf_architectures()) {
    all += (all.empty() ? "\"" : ", \"") + std::string(architecture.model_type) + "\"";
  }
  return all;
}

configs::ModelConfig model_from_hf_config(const std::string& text, const std::string& path) {
  const nlohmann::json config = parse_strict_json(text, path);
  if (!config.contains("model_type") || !config["model_type"].is_string()) {
    throw_user_error(path, ": model_type is missing; expected one of ", hf_model_types());
  }
  const auto type = config["model_type"].get<std::string>();
  const HfArchitecture* architecture = find(type);
  if (architecture == nullptr) {
    throw_user_error(path, ": model_type: found \"", type, "\"; expected one of ", hf_model_types(),
                     ": other architectures are not supported");
  }
  HfConfigReader in(config, path);
  configs::ModelConfig model;
  architecture->read(in, model);
  in.throw_problems();
  return model;
}

std::string hf_config_json(const configs::ModelConfig& model, std::string* why,
                           const std::string& model_type) {
  const HfArchitecture* chosen = nullptr;
  const HfArchitecture* wanted = model_type.empty() ? &nearest(model) : find(model_type);
  if (wanted == nullptr) {
    if (why != nullptr) *why = "\"" + model_type + "\" is not one of " + hf_model_types();
    return {};
  }
  for (const HfArchitecture& architecture : hf_architectures()) {
    const bool candidate = model_type.empty() || architecture.model_type == model_type;
    if (!candidate || !obstacles_to(architecture, model).empty()) continue;
    chosen = &architecture;
    break;
  }
  if (chosen == nullptr) {
    if (why != nullptr) {
      *why = detail::concat("not a ", wanted->title, " model: ", obstacles_to(*wanted, model));
    }
    return {};
  }
  Json json;
  json["architectures"] = {chosen->class_name};
  json["model_type"] = chosen->model_type;
  json.update(hf_common_json(model));
  chosen->write(model, json);
  return json.dump(2) + "\n";
}

std::int64_t read_hf_mtp_depth(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  const nlohmann::json config = parse_strict_json(read_text_file(path), path);
  if (config.value("model_type", "") != kHfDeepseekV3.model_type) {
    throw_user_error("--mtp keep: ", path, ": model_type is not \"", kHfDeepseekV3.model_type,
                     "\", the one architecture whose multi-token prediction is known");
  }
  const char* key = "num_nextn_predict_layers";
  const nlohmann::json depth = config.value(key, nlohmann::json(0));
  constexpr std::int64_t kMost = 16;  // of model.mtp.depth
  if (!depth.is_number_integer() || depth < 1 || depth > kMost) {
    throw_user_error("--mtp keep: ", path, ": ", key, ": found ", depth.dump(), "; expected 1 to ",
                     kMost, ", the layers behind the last");
  }
  return depth.get<std::int64_t>();
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
