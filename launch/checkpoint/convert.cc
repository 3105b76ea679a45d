#include "launch/checkpoint/convert.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <vector>

#include "core/base/error.h"
#include "launch/checkpoint/checkpoint_folders.h"
#include "launch/checkpoint/hf_config.h"
#include "launch/checkpoint/hf_tensors.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/shard_names.h"
#include "launch/checkpoint/tensor_reader.h"
#include "launch/checkpoint/weight_files.h"

namespace witan {

namespace fs = std::filesystem;

namespace {

using Shard = std::vector<StTensor>;

std::uint64_t bytes_of(const StTensor& tensor) {
  std::uint64_t bytes = size_of(tensor.dtype);
  for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
  return bytes;
}

// A tensor to write, and the one of the input that it is.
struct Target {
  HfTensor tensor;
  std::string source;
};

// In table order, to a Hugging Face folder with the copies of embedding and head that DeepSeek-V3
// stores with every module of multi-token prediction.
std::vector<Target> targets_of(const ParamTable& table, const configs::ModelConfig& model,
                               bool to_checkpoint) {
  std::vector<Target> targets;
  for (const HfTensor& tensor : hf_weights_of(table)) targets.push_back({tensor, tensor.name});
  if (to_checkpoint) return targets;
  const int embedding = table.find("embedding");
  const int head = model.tied_head() ? embedding : table.find("head");
  for (std::int64_t k = 0; k < model.mtp().depth(); ++k) {
    for (const MtpCopy& copy : mtp_copies(model.layers() + k)) {
      const HfTensor original = hf_tensors_of(table, copy.of_head ? head : embedding, 0, 0).front();
      targets.push_back({original, original.name});
      targets.back().tensor.name = copy.name;
    }
  }
  return targets;
}

// What the folder holds as far as it is converted.
configs::ModelConfig model_to_convert(const std::string& from, MtpTensors mtp) {
  configs::ModelConfig model = read_model_config(from);
  if (!has_manifest(from)) {
    if (mtp == MtpTensors::kKeep) model.mutable_mtp()->set_depth(read_hf_mtp_depth(from));
    return model;
  }
  if (mtp != MtpTensors::kRefuse && !model.has_mtp()) {
    throw_user_error("--mtp ", mtp == MtpTensors::kKeep ? "keep" : "skip", ": ", from,
                     " has no multi-token prediction; leave the option out");
  }
  if (mtp == MtpTensors::kRefuse && model.has_mtp()) {
    throw_user_error(from, ": has ", model.mtp().depth(),
                     " modules of multi-token prediction, which `transformers` does not compute; "
                     "--mtp keep writes them as layers behind the last, as DeepSeek-V3 stores "
                     "them, --mtp skip leaves them out");
  }
  if (mtp == MtpTensors::kSkip) model.clear_mtp();
  return model;
}

StDType target_dtype(WeightFiles& files, const ParamTable& table, const Target& target,
                     const ConvertOptions& options) {
  const StDType stored = files.find(target.source).tensor->dtype;
  const StDType same = stored == StDType::kF8E4M3 ? StDType::kBF16 : stored;
  // State is small and summed up in small steps: it keeps its digits.
  return table[target.tensor.id].trained() ? options.dtype.value_or(same) : same;
}

// A shard is closed before the tensor that would make it too large.
std::vector<Shard> plan_shards(WeightFiles& files, const ParamTable& table,
                               const std::vector<Target>& targets, const ConvertOptions& options) {
  std::vector<Shard> shards(1);
  std::uint64_t used = 0;
  for (const Target& target : targets) {
    if (files.file_of().count(target.source) == 0) continue;  // state that was never saved
    const StDType dtype = target_dtype(files, table, target, options);
    const StTensor tensor = {target.tensor.name, dtype, target.tensor.shape};
    if (!shards.back().empty() && used + bytes_of(tensor) > options.max_shard_bytes) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(tensor);
    used += bytes_of(tensor);
  }
  return shards;
}

void write_tensor(SafetensorsWriter& writer, const TensorReader& from, std::uint64_t elements,
                  StDType dtype) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;  // elements
  std::vector<std::byte> piece(std::min(kPiece, elements) * size_of(dtype));
  for (std::uint64_t begin = 0; begin < elements; begin += kPiece) {
    const std::uint64_t count = std::min(kPiece, elements - begin);
    from.read(static_cast<std::int64_t>(begin), static_cast<std::int64_t>(count), dtype,
              piece.data());
    writer.write(piece.data(), count * size_of(dtype));
  }
  from.release();
}

class Conversion {
 public:
  Conversion(const std::string& from, const std::string& to, const ConvertOptions& options)
      : from_(from),
        temporary_(temporary_name(to)),
        name_(fs::path(to).filename().string()),
        model_(model_to_convert(from, options.mtp)),
        table_(model_),
        files_(from, "model") {
    report_.to_checkpoint = !has_manifest(from);
    if (report_.to_checkpoint && !options.architecture.empty()) {
      throw_user_error(
          "--architecture applies to a checkpoint that becomes a Hugging Face folder; ", from,
          " is one already");
    }
    if (!report_.to_checkpoint) {
      verify_files(from, read_full_manifest(from), Files::kOthers, 0, 1);
      std::string why;
      config_ = hf_config_json(model_, &why, options.architecture);
      if (config_.empty()) {
        throw_user_error(from, ": `transformers` has no architecture for this model: ", why);
      }
    }
    if (options.mtp == MtpTensors::kSkip) leave_out_mtp();
    std::string problems = find_weight_problems(files_, table_);
    if (!problems.empty()) {
      if (has_mtp() && options.mtp == MtpTensors::kRefuse) {
        problems += detail::concat("\n  layers from ", model_.layers(),
                                   " on are multi-token prediction; --mtp keep takes them over, "
                                   "--mtp skip leaves them out");
      }
      throw_user_error(from, ": the tensors do not fit the model:", problems);
    }
    const std::vector<Target> targets = targets_of(table_, model_, report_.to_checkpoint);
    for (const Target& target : targets) source_of_[target.tensor.name] = target.source;
    shards_ = plan_shards(files_, table_, targets, options);
  }

  ConvertReport write() {
    report_.parameters = table_.total_parameters();
    write_shards();
    copy_tokenizer();
    if (report_.to_checkpoint) {
      write_manifest(temporary_, manifest());
    } else {
      write_text_file(path_of("config.json"), with_dtype(config_, shards_[0][0].dtype));
    }
    return report_;
  }

 private:
  std::string path_of(const std::string& file) const {
    return (fs::path(temporary_) / file).string();
  }

  bool is_mtp(const std::string& name) const { return hf_layer_of(name) >= model_.layers(); }
  bool has_mtp() const {
    return std::any_of(files_.file_of().begin(), files_.file_of().end(),
                       [&](const auto& entry) { return is_mtp(entry.first); });
  }
  void leave_out_mtp() {
    if (!has_mtp()) {
      throw_user_error("--mtp skip: ", from_, " has no layer behind the last of its ",
                       model_.layers(), "; leave the option out");
    }
    files_.leave_out([&](const std::string& name) { return is_mtp(name); });
  }

  void write_shards() {
    std::map<std::string, std::string> file_of;
    for (std::size_t part = 0; part < shards_.size(); ++part) {
      const std::string file = shards_.size() == 1
                                   ? "model.safetensors"
                                   : shard_name("model", static_cast<std::int64_t>(part),
                                                static_cast<std::int64_t>(shards_.size()));
      SafetensorsWriter writer(path_of(file), shards_[part], {{"format", "pt"}});
      for (const StTensor& tensor : shards_[part]) {
        const std::uint64_t elements = bytes_of(tensor) / size_of(tensor.dtype);
        write_tensor(writer, TensorReader(files_, source_of_.at(tensor.name)), elements,
                     tensor.dtype);
        file_of[tensor.name] = file;
        report_.bytes += bytes_of(tensor);
        ++report_.tensors;
      }
      digests_[file] = writer.finish();
      ++report_.files;
    }
    if (shards_.size() > 1) {
      write_text_file(path_of("model.safetensors.index.json"), index_json(file_of, report_.bytes));
    }
  }

  // As it is, whether or not this program can read it.
  void copy_tokenizer() {
    for (const char* file : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                             "tokenizer.model", "vocab.json", "merges.txt"}) {
      const fs::path source = fs::path(from_) / file;
      if (!fs::exists(source)) continue;
      digests_[file] = write_text_file(path_of(file), read_text_file(source.string()));
    }
  }

  Manifest manifest() const {
    Manifest manifest;
    manifest.info.run.set_name(name_);
    *manifest.info.run.mutable_model() = model_;
    manifest.info.state.notes["converted_from"] = from_;
    manifest.files = digests_;
    return manifest;
  }

  std::string from_, temporary_, name_;
  configs::ModelConfig model_;
  ParamTable table_;
  WeightFiles files_;
  std::string config_;
  std::vector<Shard> shards_;
  std::map<std::string, std::string> source_of_;  // by the name of what is written
  std::map<std::string, FileDigest> digests_;
  ConvertReport report_;
};

// "out/" and "out" are the same folder.
std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

ConvertReport convert_folder(const std::string& from, const std::string& to,
                             const ConvertOptions& options) {
  const std::string target = without_slash(to);
  if (fs::exists(target)) {
    throw_user_error(target, ": exists already; name a folder that does not");
  }
  Conversion conversion(from, target, options);
  make_temporary(target);
  try {
    const ConvertReport report = conversion.write();
    commit_temporary(target);
    return report;
  } catch (...) {
    remove_temporary(target);
    throw;
  }
}

}  // namespace witan
