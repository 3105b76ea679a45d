// What the ways of growing a model have in common: the source, the larger model beside it, and the
// folder that it is written to.
#pragma once

#include <cstdint>
#include <string>

#include "configs/schema/run.pb.h"
#include "core/model/param_store.h"
#include "parallel/mesh.h"

namespace witan {

struct GrowReport {
  std::int64_t parameters_before = 0;
  std::int64_t parameters = 0;  // in all
  std::int64_t active_parameters = 0;
  std::int64_t experts = 0;  // of an MoE layer
  std::int64_t top_k = 0;
  std::int64_t moe_layers = 0;
};

// The weights of one model in one process, as they are in its folder: float64 if a float64 run
// wrote them, else float32.
struct WholeModel {
  WholeModel(const configs::ModelConfig& model, DType dtype);
  WholeModel(const WholeModel&) = delete;
  WholeModel& operator=(const WholeModel&) = delete;

  Mesh mesh = Mesh::self();
  ParamTable table;
  ParamStore params;
};

// The run of a checkpoint (its newest, of a run folder); of a Hugging Face folder: its model, with
// data.tokenizer "none".
struct GrowSource {
  explicit GrowSource(const std::string& path);

  std::string folder;
  configs::RunConfig run;
  DType dtype = DType::kFloat32;
};

// `run` of the larger model as a config file would be read: granularity is carried out, and every
// check made. UserError that begins with `what` and names all fields that do not fit.
configs::RunConfig checked_run(const configs::RunConfig& run, const std::string& what);

// The run of the grown model: `model` with the data and the precision of the source, named after
// its folder.
configs::RunConfig grown_run(const GrowSource& source, const configs::ModelConfig& model,
                             const std::string& output);

// UserError if `output` is there already.
void check_output(const std::string& output);

// Copies every tensor that has the same name and shape in both models.
void copy_common(const WholeModel& from, WholeModel& to);

// Adds normal noise to `value`, of the standard deviation relative * its root mean square:
// addressed by the seed and the tensor's name.
void add_noise(double relative, std::uint64_t seed, const std::string& name,
               const TensorView& value);

// Writes a checkpoint without optimizer state, for train.init_from, and says what it is.
GrowReport write_grown(const GrowSource& source, const WholeModel& from, const WholeModel& to,
                       const configs::RunConfig& run, const std::string& output);

}  // namespace witan
