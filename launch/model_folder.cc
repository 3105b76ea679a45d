#include "launch/model_folder.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "core/base/error.h"
#include "core/model/expert_mask.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/manifest.h"
#include "launch/data/tokenizer.h"
#include "launch/run_config.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

std::string folder_with_weights(const std::string& path) {
  if (!fs::exists(path)) throw_user_error(path, ": there is no such folder");
  if (!fs::is_directory(path)) {
    throw_user_error(
        path, ": not a folder; expected a checkpoint, a run folder or a Hugging Face folder");
  }
  if (has_manifest(path) || fs::exists(fs::path(path) / "config.json")) return path;
  if (const auto newest = newest_checkpoint(path)) return *newest;
  throw_user_error(path, ": neither a checkpoint (", kManifestFile,
                   "), nor a run folder with a complete checkpoint (checkpoints/step-*), nor a "
                   "Hugging Face folder (config.json)");
}

// The run of a Hugging Face folder: nothing but its model.
std::string run_of_model(const std::string& folder) {
  configs::RunConfig run;
  run.set_name(fs::weakly_canonical(folder).filename().string());
  *run.mutable_model() = read_model_config(folder);
  return configs::print_explicit(run);
}

bool is_overridden(const configs::LoadedConfig& config, const char* field) {
  const auto origin = config.origins.find(field);
  return origin != config.origins.end() && origin->second.kind == configs::Origin::Kind::kOverride;
}

// The tokenizer whose files lie with the model is the model's. `without_run`: a folder that other
// programs wrote may have one that is not supported; then it is as if it had none.
void use_own_tokenizer(const std::string& folder, bool without_run, bool leader,
                       configs::LoadedConfig& config) {
  if (!has_tokenizer_files(folder) || is_overridden(config, "data.tokenizer")) return;
  if (without_run) {
    try {
      make_tokenizer(folder);
    } catch (const UserError& error) {
      if (leader) std::fprintf(stderr, "witan: no tokenizer: %s\n", error.what());
      return;
    }
  }
  config.run.mutable_data()->set_tokenizer(folder);
}

// A model without a run: nothing else says how its tokens were made, and the default of seq_len may
// be too long for it.
void complete_data(configs::DataConfig& data, const configs::ModelConfig& model) {
  if (!data.has_tokenizer()) data.set_tokenizer("none");
  if (!data.has_seq_len()) data.set_seq_len(std::min(data.seq_len(), model.max_seq_len()));
}

// What load() cannot do, because it must not look at the saved parallel.expert.
void check(const std::string& folder, int ranks, bool leader, configs::LoadedConfig& config) {
  if (!is_overridden(config, "parallel.expert")) config.run.mutable_parallel()->clear_expert();
  if (!is_overridden(config, "device")) {  // a checkpoint is the same, whatever it was trained on
    config.run.clear_device();
    config.run.mutable_parallel()->clear_device_transport();
  }
  use_own_tokenizer(folder, config.run.data().train_size() == 0, leader, config);
  if (config.run.data().train_size() == 0)
    complete_data(*config.run.mutable_data(), config.run.model());
  for (const configs::Check& combination : inference_checks(ranks)) {
    combination(config.run, [&](const std::string& field, const std::string& message) {
      configs::ConfigError& error = config.errors.emplace_back();
      error.field = field;
      error.message = message;
      error.source = config.file;
    });
  }
}

Mesh make_mesh(const configs::RunConfig& run, const MpiEnvironment& mpi, const Runtime& runtime) {
  const double watchdog_seconds = run.parallel().watchdog_seconds();
  Mesh mesh(mpi, resolve_expert_parallel(run, mpi.size()), watchdog_seconds);
  mesh.use_device(runtime.ctx, device_transport(run), watchdog_seconds);
  return mesh;
}

}  // namespace

std::optional<std::string> from_leader(Communicator& world,
                                       const std::function<std::string()>& make) {
  std::string message;
  if (world.rank() == 0) {
    try {
      message = "+" + make();
    } catch (const UserError& error) {
      std::fprintf(stderr, "witan: %s\n", error.what());
      message = "-";
    }
  }
  world.broadcast_bytes(message, 0);
  if (message.at(0) == '-') return std::nullopt;
  return message.substr(1);
}

ModelFolder find_model(const std::string& path, const std::vector<std::string>& overrides,
                       Communicator& world) {
  ModelFolder found;
  const auto folder = from_leader(world, [&] { return folder_with_weights(path); });
  if (!folder) return found;
  found.folder = *folder;
  bool checkpoint = false;
  const auto text = from_leader(world, [&] {
    checkpoint = has_manifest(*folder);
    return (checkpoint ? "c" : "h") + (checkpoint
                                           ? read_text_file((fs::path(*folder) / kRunFile).string())
                                           : run_of_model(*folder));
  });
  if (!text) return found;
  checkpoint = text->at(0) == 'c';
  const std::string file = (fs::path(*folder) / (checkpoint ? kRunFile : "config.json")).string();
  found.config = configs::load(text->substr(1), file, overrides);
  if (found.config.errors.empty()) check(*folder, world.size(), world.rank() == 0, found.config);
  found.ok = found.config.errors.empty();
  if (world.rank() == 0) {
    for (const configs::ConfigError& error : found.config.errors) {
      std::fprintf(stderr, "%s\n", error.to_string().c_str());
    }
  }
  return found;
}

std::optional<std::int32_t> find_tag(const configs::ModelConfig& model, const std::string& name,
                                     Communicator& world) {
  const auto index = from_leader(world, [&] {
    const std::vector<std::string> tags = tag_names(model);
    if (tags.empty() && name.empty()) return std::string("0");
    if (tags.empty()) {
      throw_user_error("--tag: found \"", name, "\", but the model has no allowed_experts by tag");
    }
    const auto found = std::find(tags.begin(), tags.end(), name);
    if (found != tags.end()) return std::to_string(found - tags.begin());
    std::string known;
    for (const std::string& tag : tags) known += (known.empty() ? "" : ", ") + tag;
    throw_user_error("--tag: ", name.empty() ? "missing" : "found \"" + name + "\"",
                     "; the model's experts depend on the tag of a token, one of ", known);
  });
  if (!index) return std::nullopt;
  return std::stoi(*index);
}

LoadedModel::LoadedModel(const ModelFolder& source, const MpiEnvironment& mpi, bool gradients)
    : runtime_(start_runtime(source.config.run.runtime(), mpi, source.config.run.device())),
      mesh_(make_mesh(source.config.run, mpi, runtime_)),
      engine_(
          source.config.run.model(), mesh_, runtime_,
          Engine::Options{gradients, 1, Recompute::kNone, exchange_options(source.config.run)}) {
  load_weights(source.folder, engine_.params(), mesh_);
  if (!leader()) return;
  for (const std::string& warning : runtime_.warnings) {
    std::fprintf(stderr, "witan: %s\n", warning.c_str());
  }
}

}  // namespace witan
