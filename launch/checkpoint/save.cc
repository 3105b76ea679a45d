// Writing a checkpoint. The ranks of replica 0 write side by side, each one file of weights and one
// of moments: its experts, and the first also the dense tensors.
#include <filesystem>
#include <memory>
#include <sstream>

#include "core/base/error.h"
#include "core/tensor/host_twin.h"
#include "launch/checkpoint/agree.h"
#include "launch/checkpoint/checkpoint_folders.h"
#include "launch/checkpoint/float_convert.h"
#include "launch/checkpoint/hf_config.h"
#include "launch/checkpoint/hf_tensors.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/safetensors.h"
#include "launch/checkpoint/shard_names.h"

namespace witan {

namespace fs = std::filesystem;

namespace {

constexpr ParamGroup kGroups[] = {ParamGroup::kDense, ParamGroup::kExpert};
constexpr int kMoments = 2;

// This rank's files.
class ShardWriter {
 public:
  ShardWriter(std::string folder, const ParamStore& params, const Mesh& mesh)
      : folder_(std::move(folder)),
        params_(params),
        mesh_(mesh),
        writes_(mesh.replica().rank() == 0),
        first_(mesh.expert().rank() == 0) {}

  void write_weights() {
    if (!writes_) return;
    std::vector<StTensor> tensors;
    for (const ParamGroup group : kGroups) declare(tensors, group, -1);
    for_each_state([&](const ParamInfo& info, const TensorView& value) {
      if (!info.hf.empty()) tensors.push_back(state_tensor(info.hf[0].name, value));
    });
    SafetensorsWriter writer(path_of(own_file("model")), std::move(tensors), {{"format", "pt"}});
    for (const ParamGroup group : kGroups) write_group(writer, group, params_.flat_values(group));
    for_each_state([&](const ParamInfo& info, const TensorView& value) {
      if (!info.hf.empty()) writer.write(value.data, value.bytes());
    });
    note(own_file("model"), writer.finish());
  }

  // A collective inside: goes on to the end whatever fails here, which stays in `attempt`.
  void write_moments(ShardedAdamW& optimizer, Attempt& attempt) {
    std::unique_ptr<SafetensorsWriter> writer;
    if (writes_) attempt([&] { writer = open_moments(); });
    for (const ParamGroup group : kGroups) {
      const std::int64_t size = params_.flat_values(group).size();
      if (size == 0) continue;
      const Tensor flat({size}, params_.dtype());
      for (int moment = 0; moment < kMoments; ++moment) {
        optimizer.gather_moment(moment, group, flat);
        if (writes_) attempt([&] { write_group(*writer, group, flat); });
      }
    }
    if (writes_) attempt([&] { note(own_file("state"), writer->finish()); });
  }

  // State that has no name among the weights.
  void write_buffers() {
    if (!writes_) return;
    std::vector<StTensor> tensors;
    std::vector<TensorView> values;
    for_each_state([&](const ParamInfo& info, const TensorView& value) {
      if (!info.hf.empty()) return;
      values.push_back(value);
      tensors.push_back(state_tensor(info.name, value));
    });
    if (tensors.empty()) return;
    SafetensorsWriter writer(path_of(kBuffersFile), std::move(tensors));
    for (const TensorView& value : values) writer.write(value.data, value.bytes());
    note(kBuffersFile, writer.finish());
  }

  // "name bytes checksum" a line, for the first rank's manifest.
  const std::string& digests() const { return digests_; }

 private:
  std::string own_file(const char* stem) const {
    return shard_name(stem, mesh_.expert().rank(), mesh_.expert().size());
  }
  std::string path_of(const std::string& file) const { return (fs::path(folder_) / file).string(); }

  void note(const std::string& file, const FileDigest& digest) {
    digests_ += detail::concat(file, ' ', digest.bytes, ' ', digest.xxh3, '\n');
  }

  // f(tensor, its first element in the group's flat buffer), for what this rank writes.
  template <class F>
  void for_each(ParamGroup group, F&& f) const {
    if (group == ParamGroup::kDense && !first_) return;
    const ParamStore::Layout& layout = params_.layout();
    for (const ParamSpan& span : params_.spans(group)) {
      for (const HfTensor& tensor :
           hf_tensors_of(params_.table(), span.id, layout.first_expert, layout.local_experts)) {
        f(tensor, span.begin + local_offset(params_.table(), tensor, layout.first_expert));
      }
    }
  }

  // f(its entry, its value) for what has no gradient; on the first rank only.
  template <class F>
  void for_each_state(F&& f) const {
    for (int id = 0; id < params_.table().size() && first_; ++id) {
      if (!params_.table()[id].trained()) f(params_.table()[id], params_.value(id));
    }
  }

  StTensor state_tensor(const std::string& name, const TensorView& value) const {
    StTensor tensor = {name, st_dtype_of(params_.dtype()), {}};
    for (int axis = 0; axis < value.shape.rank(); ++axis) {
      tensor.shape.push_back(value.shape[axis]);
    }
    return tensor;
  }

  // `moment` -1: the weights.
  void declare(std::vector<StTensor>& tensors, ParamGroup group, int moment) const {
    const StDType dtype = st_dtype_of(params_.dtype());
    for_each(group, [&](const HfTensor& tensor, std::int64_t) {
      const std::string name = moment < 0 ? tensor.name : moment_name(tensor.name, moment);
      tensors.push_back({name, dtype, tensor.shape});
    });
  }

  void write_group(SafetensorsWriter& writer, ParamGroup group, const TensorView& flat) const {
    for_each(group, [&](const HfTensor& tensor, std::int64_t begin) {
      const HostTwin twin(params_.context(), flat.slice_rows(begin, tensor.elements));
      const TensorView& values = twin.read().view();
      writer.write(values.data, values.bytes());
    });
  }

  // Declares in the order in which write_moments() writes.
  std::unique_ptr<SafetensorsWriter> open_moments() const {
    std::vector<StTensor> tensors;
    for (const ParamGroup group : kGroups) {
      for (int moment = 0; moment < kMoments; ++moment) declare(tensors, group, moment);
    }
    return std::make_unique<SafetensorsWriter>(path_of(own_file("state")), std::move(tensors));
  }

  std::string folder_;
  const ParamStore& params_;
  const Mesh& mesh_;
  bool writes_;  // replica 0
  bool first_;   // of its expert-parallel group
  std::string digests_;
};

void write_indices(const std::string& folder, const ParamTable& table, const Manifest& manifest) {
  const std::int64_t parts = manifest.info.expert_parallel;
  std::map<std::string, std::string> weights, moments;
  std::uint64_t elements = 0;
  std::uint64_t states = 0;
  for (const HfTensor& tensor : hf_weights_of(table)) {
    const std::int64_t part =
        tensor.expert < 0 ? 0 : tensor.expert / (table[tensor.id].shape[0] / parts);
    weights[tensor.name] = shard_name("model", part, parts);
    if (!table[tensor.id].trained()) {
      states += static_cast<std::uint64_t>(tensor.elements);
      continue;
    }
    for (int moment = 0; moment < kMoments; ++moment) {
      moments[moment_name(tensor.name, moment)] = shard_name("state", part, parts);
    }
    elements += static_cast<std::uint64_t>(tensor.elements);
  }
  const auto write = [&](const char* file, const auto& file_of, std::uint64_t bytes) {
    write_text_file((fs::path(folder) / file).string(), index_json(file_of, bytes));
  };
  write("model.safetensors.index.json", weights, (elements + states) * size_of(manifest.dtype));
  if (manifest.optimizer_state) {
    write("state.safetensors.index.json", moments, elements * kMoments * size_of(manifest.dtype));
  }
}

std::map<std::string, FileDigest> parse_digests(const std::string& lines) {
  std::map<std::string, FileDigest> digests;
  std::istringstream in(lines);
  std::string file;
  FileDigest digest;
  while (in >> file >> digest.bytes >> digest.xxh3) digests[file] = digest;
  return digests;
}

// What one rank writes once all shards are there; the manifest last.
void write_rest(const std::string& folder, const ParamTable& table, Manifest& manifest) {
  for (const auto& [file, content] : manifest.info.state.files) {
    manifest.files[file] = write_text_file((fs::path(folder) / file).string(), content);
  }
  write_indices(folder, table, manifest);
  const std::string config = hf_config_json(manifest.info.run.model());
  if (!config.empty()) {
    write_text_file((fs::path(folder) / "config.json").string(),
                    with_dtype(config, st_dtype_of(manifest.dtype)));
  }
  write_manifest(folder, manifest);
}

}  // namespace

void save_checkpoint(const std::string& folder, const configs::RunConfig& run,
                     const ParamStore& params, ShardedAdamW* optimizer, const TrainState& state,
                     const Mesh& mesh, int keep_last) {
  WITAN_CHECK(keep_last >= 1, "keep_last: expected at least 1, found ", keep_last);
  const bool root = mesh.world_rank() == 0;
  const std::string what = "cannot write the checkpoint " + folder;

  Attempt prepare;
  if (root) prepare([&] { make_temporary(folder); });
  prepare.throw_together(mesh.world(), what);

  Attempt write;
  ShardWriter shards(temporary_name(folder), params, mesh);
  write([&] { shards.write_weights(); });
  if (optimizer != nullptr) shards.write_moments(*optimizer, write);
  write([&] { shards.write_buffers(); });
  std::string errors = write.agree(mesh.world());
  const std::string digests = mesh.world().gather_bytes(shards.digests(), 0);

  Attempt commit;
  if (root) {
    if (errors.empty()) {
      commit([&] {
        Manifest manifest;
        manifest.info = {run, state, mesh.expert_parallel(), mesh.world_size()};
        manifest.dtype = params.dtype();
        manifest.optimizer_state = optimizer != nullptr;
        manifest.files = parse_digests(digests);
        write_rest(temporary_name(folder), params.table(), manifest);
        commit_temporary(folder);
      });
    }
    if (!errors.empty() || commit.failed()) remove_temporary(folder);
  }
  errors += commit.agree(mesh.world());
  if (!errors.empty()) throw_user_error(what, ":", errors);

  Attempt clean;
  if (root) clean([&] { prune(folder, keep_last); });
  clean.throw_together(mesh.world(), folder + " is written, but older ones cannot be removed");
}

}  // namespace witan
