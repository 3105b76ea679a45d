// Reading a checkpoint or a Hugging Face folder at any layout: one rank checks the whole of it, all
// share the checksums, and each reads its own part through the page cache.
#include <filesystem>
#include <optional>

#include "configs/load.h"
#include "core/base/error.h"
#include "core/model/check_model.h"
#include "core/tensor/host_twin.h"
#include "launch/checkpoint/agree.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/config_diff.h"
#include "launch/checkpoint/float_convert.h"
#include "launch/checkpoint/hf_config.h"
#include "launch/checkpoint/hf_tensors.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/shard_names.h"
#include "launch/checkpoint/tensor_reader.h"
#include "launch/checkpoint/weight_files.h"

namespace witan {

namespace fs = std::filesystem;

namespace {

constexpr ParamGroup kGroups[] = {ParamGroup::kDense, ParamGroup::kExpert};

// This rank's tensors of a group into `flat`. `name_of_tensor` turns a weight's name into the one
// to read.
template <class NameOf>
void read_group(WeightFiles& files, const ParamStore& params, ParamGroup group,
                const TensorView& flat, NameOf&& name_of_tensor) {
  const ParamStore::Layout& layout = params.layout();
  for (const ParamSpan& span : params.spans(group)) {
    for (const HfTensor& tensor :
         hf_tensors_of(params.table(), span.id, layout.first_expert, layout.local_experts)) {
      const TensorReader reader(files, name_of_tensor(tensor.name));
      const std::int64_t begin =
          span.begin + local_offset(params.table(), tensor, layout.first_expert);
      const HostTwin twin(params.context(), flat.slice_rows(begin, tensor.elements));
      reader.read(0, tensor.elements, st_dtype_of(flat.dtype), twin.view().data);
      twin.write_back();
      reader.release();
    }
  }
}

std::vector<ExpectedTensor> expected_buffers(const ParamTable& table) {
  std::vector<ExpectedTensor> expected;
  for (const ParamInfo& info : table.params()) {
    if (info.trained() || !info.hf.empty()) continue;
    expected.push_back({info.name, {}});
    for (int axis = 0; axis < info.shape.rank(); ++axis) {
      expected.back().shape.push_back(info.shape[axis]);
    }
  }
  return expected;
}

// Tensors of role kState, among the weights or in a file of their own. A folder without any leaves
// them at 0.
class Buffers {
 public:
  explicit Buffers(const std::string& folder) {
    if (has_manifest(folder) && fs::exists(fs::path(folder) / kBuffersFile)) {
      files_.emplace(folder, "buffers");
    }
  }
  std::string problems(const ParamTable& table) {
    return files_ ? find_problems(*files_, expected_buffers(table)) : "";
  }
  void read(const ParamStore& params, WeightFiles& weights) {
    for (int id = 0; id < params.table().size(); ++id) {
      const ParamInfo& info = params.table()[id];
      if (info.trained()) continue;
      const TensorView value = params.value(id);
      const std::string& name = info.hf.empty() ? info.name : info.hf[0].name;
      WeightFiles* from = files_ ? &*files_ : nullptr;
      if (!info.hf.empty()) from = weights.file_of().count(name) > 0 ? &weights : nullptr;
      if (from != nullptr) {
        TensorReader(*from, name).read(0, value.size(), st_dtype_of(value.dtype), value.data);
      } else {
        std::fill_n(static_cast<std::byte*>(value.data), value.bytes(), std::byte{0});
      }
    }
  }

 private:
  std::optional<WeightFiles> files_;
};

void check_same_model(const configs::RunConfig& run, const Manifest& manifest,
                      const std::string& folder) {
  std::string lines;
  for (const ConfigDifference& difference :
       config_differences(run.model(), manifest.info.run.model(), "model")) {
    lines += "\n  " + difference.field + ": " + difference.left + " in this run, " +
             difference.right + " in the checkpoint";
  }
  if (!lines.empty()) {
    throw_user_error(folder, ": the checkpoint of another model:", lines,
                     "\n  take over the weights alone with train.init_from, or start a new run");
  }
}

void check_resumable(const Manifest& manifest, DType dtype, const std::string& folder) {
  if (!manifest.optimizer_state) {
    throw_user_error(folder,
                     ": holds no optimizer state, so it cannot be resumed; take over its "
                     "weights with train.init_from");
  }
  if (manifest.dtype != dtype) {
    throw_user_error(folder, ": a run in ", name_of(manifest.dtype), ", resumed in ",
                     name_of(dtype), ": set runtime.precision as it was");
  }
}

std::vector<ExpectedTensor> expected_moments(const ParamTable& table) {
  std::vector<ExpectedTensor> expected;
  for (const HfTensor& tensor : hf_tensors_of(table)) {
    for (int moment = 0; moment < 2; ++moment) {
      expected.push_back({moment_name(tensor.name, moment), tensor.shape});
    }
  }
  return expected;
}

void load_moments(const std::string& folder, const ParamStore& params, ShardedAdamW& optimizer) {
  WeightFiles files(folder, "state");
  for (const ParamGroup group : kGroups) {
    const std::int64_t size = params.flat_values(group).size();
    if (size == 0) continue;
    const Tensor flat = Tensor::zeros({size}, params.dtype());
    for (int moment = 0; moment < 2; ++moment) {
      read_group(files, params, group, flat,
                 [&](const std::string& name) { return moment_name(name, moment); });
      optimizer.set_moment(moment, group, flat);
    }
  }
}

// Fields out of range, and combinations that the model cannot be built with.
void check_model_ranges(const configs::ModelConfig& model, const std::string& path) {
  configs::RunConfig run;
  run.set_name("model");
  *run.mutable_model() = model;
  const configs::LoadedConfig loaded =
      configs::load(configs::print_explicit(run), path, {},
                    {[](const configs::RunConfig& checked, const configs::Fail& fail) {
                      check_model(checked.model(), fail);
                    }});
  std::string lines;
  for (const configs::ConfigError& error : loaded.errors) {
    lines += "\n  " + error.field + ": " + error.message;
  }
  if (!lines.empty()) throw_user_error(path, ": this model cannot be taken over:", lines);
}

}  // namespace

configs::ModelConfig read_model_config(const std::string& folder) {
  if (!fs::is_directory(folder)) throw_user_error(folder, ": there is no such folder");
  if (has_manifest(folder)) return read_manifest(folder).run.model();
  const std::string path = (fs::path(folder) / "config.json").string();
  if (!fs::exists(path)) {
    throw_user_error(folder, ": neither a checkpoint (", kManifestFile,
                     ") nor a Hugging Face folder (config.json)");
  }
  configs::ModelConfig model = model_from_hf_config(read_text_file(path), path);
  check_model_ranges(model, path);
  return model;
}

void load_weights(const std::string& folder, ParamStore& params, const Mesh& mesh) {
  Attempt check;
  if (mesh.world_rank() == 0) {
    check([&] {
      WeightFiles files(folder, "model");
      const std::string problems =
          find_weight_problems(files, params.table()) + Buffers(folder).problems(params.table());
      if (!problems.empty()) throw_user_error("the tensors do not fit the model:", problems);
    });
  }
  check([&] {
    if (!has_manifest(folder)) return;
    verify_files(folder, read_full_manifest(folder), Files::kOthers, mesh.world_rank(),
                 mesh.world_size());
  });
  check.throw_together(mesh.world(), folder);

  Attempt read;
  read([&] {
    WeightFiles files(folder, "model");
    for (const ParamGroup group : kGroups) {
      read_group(files, params, group, params.flat_values(group),
                 [](const std::string& name) { return name; });
    }
    Buffers(folder).read(params, files);
  });
  read.throw_together(mesh.world(), folder);
}

TrainState load_checkpoint(const std::string& folder, const configs::RunConfig& run,
                           ParamStore& params, ShardedAdamW& optimizer, const Mesh& mesh) {
  Manifest manifest;
  Attempt check;
  check([&] {
    manifest = read_full_manifest(folder);
    check_same_model(run, manifest, folder);
    check_resumable(manifest, params.dtype(), folder);
    verify_files(folder, manifest, Files::kMoments, mesh.world_rank(), mesh.world_size());
    if (mesh.world_rank() != 0) return;
    WeightFiles files(folder, "state");
    const std::string problems = find_problems(files, expected_moments(params.table()));
    if (!problems.empty()) throw_user_error("the moments do not fit the model:", problems);
  });
  check.throw_together(mesh.world(), folder);
  load_weights(folder, params, mesh);

  Attempt read;
  read([&] { load_moments(folder, params, optimizer); });
  read.throw_together(mesh.world(), folder);
  return manifest.info.state;
}

}  // namespace witan
