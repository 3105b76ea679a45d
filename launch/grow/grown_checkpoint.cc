#include "launch/grow/grown_checkpoint.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <vector>

#include "configs/load.h"
#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/ops/reduce.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/manifest.h"
#include "launch/run_config.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

ParamStore::Layout whole(const configs::ModelConfig& model) {
  return {0, ModelDims(model).experts, 1, 1};
}

// "out/" and "out" are the same folder.
std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

WholeModel::WholeModel(const configs::ModelConfig& model, DType dtype)
    : table(model), params(table, whole(model), dtype, Device{}, false) {}

GrowSource::GrowSource(const std::string& path) : folder(path) {
  if (!has_manifest(path)) folder = newest_checkpoint(path).value_or(path);
  if (has_manifest(folder)) {
    const Manifest manifest = read_full_manifest(folder);
    run = manifest.info.run;
    dtype = manifest.dtype;
  } else {
    *run.mutable_model() = read_model_config(folder);
    run.mutable_data()->set_tokenizer("none");
  }
}

configs::RunConfig checked_run(const configs::RunConfig& run, const std::string& what) {
  const configs::LoadedConfig loaded =
      configs::load(configs::print_explicit(run), what, {}, model_checks());
  std::string lines;
  for (const configs::ConfigError& error : loaded.errors) {
    lines += "\n  " + error.field + ": " + error.message;
  }
  if (!lines.empty()) throw_user_error(what, ": the grown model cannot be built:", lines);
  return loaded.run;
}

configs::RunConfig grown_run(const GrowSource& source, const configs::ModelConfig& model,
                             const std::string& output) {
  configs::RunConfig run;
  run.set_name(fs::path(without_slash(output)).filename().string());
  *run.mutable_model() = model;
  if (source.run.has_data()) *run.mutable_data() = source.run.data();
  if (source.run.runtime().has_precision()) {
    run.mutable_runtime()->set_precision(source.run.runtime().precision());
  }
  return run;
}

void check_output(const std::string& output) {
  if (fs::exists(output)) throw_user_error(output, ": exists already; name a folder that does not");
}

void copy_common(const WholeModel& from, WholeModel& to) {
  for (int id = 0; id < to.table.size(); ++id) {
    const int source = from.table.find(to.table[id].name);
    if (source < 0 || from.table[source].shape != to.table[id].shape) continue;
    const TensorView value = to.params.value(id);
    std::memcpy(value.data, from.params.value(source).data, value.bytes());
  }
}

void add_noise(double relative, std::uint64_t seed, const std::string& name,
               const TensorView& value) {
  if (relative == 0.0 || value.size() == 0) return;
  const double mean_square =
      ops::sum_of_squares(Context{}, value) / static_cast<double>(value.size());
  const double deviation = relative * std::sqrt(mean_square);
  const Random random(seed, "grow", name);
  dispatch_float(value.dtype, name.c_str(), [&](auto zero) {
    using T = decltype(zero);
    T* data = value.as<T>();
    for (std::int64_t i = 0; i < value.size(); ++i) {
      data[i] += static_cast<T>(deviation * random.normal(static_cast<std::uint64_t>(i)));
    }
  });
}

GrowReport write_grown(const GrowSource& source, const WholeModel& from, const WholeModel& to,
                       const configs::RunConfig& run, const std::string& output) {
  TrainState state;
  state.notes["grown_from"] = source.folder;
  // The folder is not one of a run's checkpoints: nothing beside it is in the way.
  constexpr int kKeepAll = std::numeric_limits<int>::max();
  save_checkpoint(without_slash(output), run, to.params, nullptr, state, to.mesh, kKeepAll);
  const ModelDims dims(run.model());
  return {from.table.total_parameters(),
          to.table.total_parameters(),
          to.table.active_parameters(),
          dims.experts,
          dims.top_k,
          dims.moe_layers()};
}

}  // namespace witan
