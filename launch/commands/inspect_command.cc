#include "launch/commands/inspect_command.h"

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/param_table.h"
#include "launch/checkpoint/hf_tensors.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/weight_files.h"
#include "launch/data/indexed_dataset.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFooter = R"(
Examples:
  witan inspect runs/quickstart/checkpoints/step-00001000
  witan inspect runs/quickstart/checkpoints/step-00001000 --verify --json step.json
  witan inspect mixtral-tiny/
  witan inspect mixtral-tiny/model-00001-of-00002.safetensors
  witan inspect data/book

PATH: a checkpoint, a Hugging Face folder (Mixtral, Llama), a .safetensors file, or the prefix of an
indexed dataset. Missing, unknown or misshapen tensors of a folder are reported, exit code 2. The
tensor names printed first are those that optimizer.rule patterns match.

Keys of --json: path, kind ("checkpoint", "hugging_face", "safetensors" or "dataset"), and
  checkpoint, hugging_face: parameters_total, parameters_active, bytes, files [name, bytes],
    tensors [name, role, shape, dtype, hugging_face]
  checkpoint: step, samples, world, expert_parallel, precision, optimizer_state, notes, verified
  safetensors: bytes, metadata, tensors [name, dtype, shape, bytes]
  dataset: documents, sequences, tokens, bytes_per_token

Exit codes: 0 done, 2 a path that holds none of these, or a damaged one.)";

struct CommandLine {
  std::string path, json_file;
  bool verify = false;
};

const char* name_of(ParamRole role) {
  switch (role) {
    case ParamRole::kDense: return "dense";
    case ParamRole::kRouter: return "router";
    case ParamRole::kExpert: return "expert";
    case ParamRole::kState: return "state";
  }
  return "?";
}

// "0-3,5": the layers that a line of the table stands for.
std::string ranges_of(const std::vector<int>& layers) {
  std::string text;
  for (std::size_t begin = 0; begin < layers.size();) {
    std::size_t end = begin + 1;
    while (end < layers.size() && layers[end] == layers[end - 1] + 1) ++end;
    text += (text.empty() ? "" : ",") + std::to_string(layers[begin]);
    if (end - begin > 1) text += "-" + std::to_string(layers[end - 1]);
    begin = end;
  }
  return text;
}

// The table as it is printed: one line for tensors that differ in their layer only.
class TensorLines {
 public:
  void add(const ParamInfo& info, const std::string& dtype) {
    const std::string prefix = "layers." + std::to_string(info.layer) + ".";
    const std::string name = info.layer < 0 ? info.name : info.name.substr(prefix.size());
    const std::string what = info.shape.to_string() + "  " + dtype + "  " + name_of(info.role);
    const auto key = std::make_pair(name, what);
    if (layers_.count(key) == 0) order_.push_back(key);
    layers_[key].push_back(info.layer);
  }
  void print() const {
    for (const auto& key : order_) {
      const std::vector<int>& layers = layers_.at(key);
      const std::string prefix = layers[0] < 0 ? "" : "layers.{" + ranges_of(layers) + "}.";
      std::printf("  %-44s %s\n", (prefix + key.first).c_str(), key.second.c_str());
    }
  }

 private:
  using Key = std::pair<std::string, std::string>;
  std::map<Key, std::vector<int>> layers_;
  std::vector<Key> order_;
};

std::string dtype_in(WeightFiles& files, const ParamInfo& info) {
  if (info.hf.empty()) return "";
  std::string name = info.hf[0].name;
  const std::size_t at = name.find("{expert}");
  if (at != std::string::npos) name.replace(at, 8, "0");
  // State that a checkpoint never saved has none.
  return files.file_of().count(name) > 0 ? name_of(files.find(name).tensor->dtype) : "";
}

void describe_tensors(WeightFiles& files, const ParamTable& table, Json& json) {
  TensorLines lines;
  json["tensors"] = Json::array();
  for (const ParamInfo& info : table.params()) {
    const std::string dtype = dtype_in(files, info);
    lines.add(info, dtype);
    Json shape = Json::array();
    for (int axis = 0; axis < info.shape.rank(); ++axis) shape.push_back(info.shape[axis]);
    Json names = Json::array();
    for (const HfPart& part : info.hf) names.push_back(part.name);
    json["tensors"].push_back({{"name", info.name},
                               {"role", name_of(info.role)},
                               {"shape", shape},
                               {"dtype", dtype},
                               {"hugging_face", names}});
  }
  lines.print();
}

void describe_files(WeightFiles& files, Json& json) {
  std::set<std::string> names;
  for (const auto& [tensor, file] : files.file_of()) names.insert(file);
  std::uintmax_t total = 0;
  json["files"] = Json::array();
  for (const std::string& name : names) {
    const std::uintmax_t bytes = fs::file_size(fs::path(files.folder()) / name);
    json["files"].push_back({{"name", name}, {"bytes", bytes}});
    total += bytes;
  }
  json["bytes"] = total;
  std::printf("%zu tensors in %zu files, %.1f MB\n", files.file_of().size(), names.size(),
              static_cast<double>(total) / 1e6);
}

void describe_manifest(const CommandLine& line, Json& json) {
  const Manifest manifest = read_full_manifest(line.path);
  const CheckpointInfo& info = manifest.info;
  std::printf("step %lld, %lld training sequences; run \"%s\" in %s\n",
              static_cast<long long>(info.state.step), static_cast<long long>(info.state.samples),
              info.run.name().c_str(), name_of(manifest.dtype));
  std::printf("written by %d ranks: EP %d x DP %d; %s optimizer state\n", info.world,
              info.expert_parallel, info.world / info.expert_parallel,
              manifest.optimizer_state ? "with" : "without");
  for (const auto& [key, value] : info.state.notes) {
    std::printf("%s: %s\n", key.c_str(), value.c_str());
  }
  json["step"] = info.state.step;
  json["samples"] = info.state.samples;
  json["world"] = info.world;
  json["expert_parallel"] = info.expert_parallel;
  json["precision"] = name_of(manifest.dtype);
  json["optimizer_state"] = manifest.optimizer_state;
  json["notes"] = info.state.notes;
  json["verified"] = line.verify;
  if (!line.verify) return;
  for (const Files which : {Files::kOthers, Files::kMoments}) {
    verify_files(line.path, manifest, which, 0, 1);
  }
  std::printf("%zu checksums agree\n", manifest.files.size());
}

void inspect_folder(const CommandLine& line, Json& json) {
  const bool checkpoint = has_manifest(line.path);
  const configs::ModelConfig model = read_model_config(line.path);
  const ParamTable table(model);
  json["kind"] = checkpoint ? "checkpoint" : "hugging_face";
  std::printf("%s: a %s\n", line.path.c_str(), checkpoint ? "checkpoint" : "Hugging Face folder");
  if (checkpoint) describe_manifest(line, json);
  if (!checkpoint && line.verify) {
    throw_user_error("--verify: only checkpoints hold checksums; ", line.path, " is not one");
  }
  WeightFiles files(line.path, "model");
  const std::string problems = find_weight_problems(files, table);
  if (!problems.empty()) {
    throw_user_error(line.path, ": the tensors do not fit the model:", problems);
  }
  std::printf("%lld parameters, %lld active per token\n",
              static_cast<long long>(table.total_parameters()),
              static_cast<long long>(table.active_parameters()));
  json["parameters_total"] = table.total_parameters();
  json["parameters_active"] = table.active_parameters();
  describe_files(files, json);
  describe_tensors(files, table, json);
}

void inspect_file(const CommandLine& line, Json& json) {
  const SafetensorsReader reader(line.path);
  std::uint64_t bytes = 0;
  json["kind"] = "safetensors";
  json["metadata"] = reader.metadata();
  json["tensors"] = Json::array();
  for (const auto& [name, tensor] : reader.tensors()) {
    std::printf("  %-60s %-5s %s\n", name.c_str(), name_of(tensor.dtype),
                to_string(tensor.shape).c_str());
    json["tensors"].push_back({{"name", name},
                               {"dtype", name_of(tensor.dtype)},
                               {"shape", tensor.shape},
                               {"bytes", tensor.bytes}});
    bytes += tensor.bytes;
  }
  for (const auto& [key, value] : reader.metadata()) {
    std::printf("%s: %s\n", key.c_str(), value.c_str());
  }
  json["bytes"] = bytes;
  std::printf("%s: %zu tensors, %.1f MB\n", line.path.c_str(), reader.tensors().size(),
              static_cast<double>(bytes) / 1e6);
}

void inspect_dataset(const std::string& prefix, Json& json) {
  const IndexedDataset dataset(prefix);
  json["kind"] = "dataset";
  json["documents"] = dataset.documents();
  json["sequences"] = dataset.sequences();
  json["tokens"] = dataset.tokens();
  json["bytes_per_token"] = dataset.bytes_per_token();
  std::printf("%s: an indexed dataset of %lld documents, %lld sequences, %lld tokens of %d bytes\n",
              prefix.c_str(), static_cast<long long>(dataset.documents()),
              static_cast<long long>(dataset.sequences()), static_cast<long long>(dataset.tokens()),
              dataset.bytes_per_token());
}

// The prefix that PATH names, also where it names one of the two files; empty if there is none.
std::string dataset_prefix(const std::string& path) {
  const fs::path whole(path);
  const bool one_file = whole.extension() == ".idx" || whole.extension() == ".bin";
  const std::string prefix =
      one_file ? (whole.parent_path() / whole.stem()).string() : whole.string();
  return fs::exists(prefix + ".idx") ? prefix : "";
}

int run_inspect(const CommandLine& line) {
  Json json;
  json["path"] = line.path;
  const std::string prefix = dataset_prefix(line.path);
  if (fs::is_directory(line.path)) {
    inspect_folder(line, json);
  } else if (fs::path(line.path).extension() == ".safetensors") {
    inspect_file(line, json);
  } else if (!prefix.empty()) {
    inspect_dataset(prefix, json);
  } else {
    throw_user_error(line.path,
                     ": expected a checkpoint, a Hugging Face folder, a .safetensors file, or the "
                     "prefix of an indexed dataset (PREFIX.bin and PREFIX.idx)");
  }
  if (!line.json_file.empty()) write_text_file(line.json_file, json.dump(2) + "\n");
  return 0;
}

}  // namespace

void register_inspect(CLI::App& app, std::function<int()>& run) {
  const auto line = std::make_shared<CommandLine>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Show what is in a checkpoint, a Hugging Face folder or a dataset");
  command->add_option("path", line->path, "Folder, .safetensors file, or dataset prefix")
      ->required()
      ->type_name("PATH");
  command->add_flag("--verify", line->verify, "Compare the checksums of a checkpoint's files");
  command->add_option("--json", line->json_file, "Write the figures to this file")
      ->type_name("FILE");
  command->footer(kFooter);
  command->callback([line, &run] { run = [line] { return run_inspect(*line); }; });
}

}  // namespace witan
