// Checkpoints: a folder that is a Hugging Face folder (config.json where `transformers` has the
// architecture, safetensors with one tensor per expert under global ids and an index) plus what a
// run needs to go on.
//
//   RUN/checkpoints/step-00001000/
//     config.json                          where `transformers` has the architecture
//     model-0000R-of-0000N.safetensors     weights; R: ranks of one expert-parallel group, of which
//                                          the first also writes the dense tensors
//     model.safetensors.index.json
//     state-0000R-of-0000N.safetensors     moments: the weights' names with ".exp_avg" and
//     state.safetensors.index.json         ".exp_avg_sq"
//     tokenizer.json, ...                  files of the tokenizer, if it has any
//     buffers.safetensors                  tensors of role kState under their names in the table
//     run.textproto                        the run config
//     witan.json                           manifest, written last: format, step, data position,
//                                          counts, layout, notes, sizes and checksums of the files
//   Weights, moments and buffers keep the run's precision (F32, or F64 in a float64 run), so that a
//   resumed run has the same bits.
//   It is written as step-00001000.tmp, fsynced, and renamed: a kill at any instant leaves the last
//   good one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "core/model/param_store.h"
#include "optim/sharded_adamw.h"
#include "parallel/mesh.h"

namespace witan {

// What a run needs besides tensors.
struct TrainState {
  std::int64_t step = 0;     // optimizer steps done
  std::int64_t samples = 0;  // training sequences consumed: the data position
  std::map<std::string, std::vector<std::int64_t>>
      counts;  // by name: expert counts since the last bias update, counts of the previous step
  std::map<std::string, std::string>
      notes;  // "kernels", "tokenizer", ...: free text, compared on resume
  std::map<std::string, std::string>
      files;  // more files of the folder (the tokenizer's), by name: written, not read back
};

// RUN/checkpoints/step-00001000
std::string checkpoint_folder(const std::string& run_folder, std::int64_t step);

// Writes FOLDER (its parent is made; a checkpoint of that name is replaced in one instant) and
// removes all but the keep_last newest step-* folders beside it. Collective; any rank's failure
// (disk full, ...) is a UserError on every rank and leaves no half-written folder. `optimizer` may
// be null: nothing can be resumed from such a checkpoint. Takes memory for one moment of the larger
// group on each rank.
void save_checkpoint(const std::string& folder, const configs::RunConfig& run,
                     const ParamStore& params, ShardedAdamW* optimizer, const TrainState& state,
                     const Mesh& mesh, int keep_last);

// The newest complete checkpoint under RUN/checkpoints, if any (".tmp" folders and folders without
// a manifest don't count).
std::optional<std::string> newest_checkpoint(const std::string& run_folder);

// The model of a checkpoint or a Hugging Face folder (docs/models.md): from run.textproto, else
// config.json. UserError on what is not supported: each key, value, and what would be right.
configs::ModelConfig read_model_config(const std::string& folder);

// Weights (float64, float32, float16 or bfloat16 on disk) and, from a Witan checkpoint, tensors of
// role kState, into this rank's part. Missing, unknown or misshapen tensors are a UserError that
// names them all, and so are files that differ from their checksums. Tensors of role kState become
// 0 where the folder comes from elsewhere or its model had none. Any EP / DP size. Collective.
void load_weights(const std::string& folder, ParamStore& params, const Mesh& mesh);

// Everything a resume needs, at any EP / DP size. The model config must be equal to the
// checkpoint's (UserError names the fields that differ), and the precision. Collective.
TrainState load_checkpoint(const std::string& folder, const configs::RunConfig& run,
                           ParamStore& params, ShardedAdamW& optimizer, const Mesh& mesh);

// What the manifest says, without loading tensors.
struct CheckpointInfo {
  configs::RunConfig run;
  TrainState state;
  int expert_parallel = 1;
  int world = 1;
};
CheckpointInfo read_manifest(const std::string& folder);

// config.json of `transformers` for this model as a JSON text; empty if it has no such architecture
// (`why` then says what stands in the way). `model_type`: the architecture wanted where several
// compute the same ("mistral" for what is also a Llama); empty: the first that fits.
std::string hf_config_json(const configs::ModelConfig& model, std::string* why = nullptr,
                           const std::string& model_type = "");

// Writes the gradients like a Hugging Face folder's tensors (one float32 tensor per trained tensor,
// gate and up apart), into one file, gathered from the ranks of replica 0, where the gradients must
// be complete: summed over all ranks that hold the tensor. `scale` multiplies them. For `witan
// logits --gradients`. Collective.
void save_gradients(const std::string& path, const ParamStore& params, double scale,
                    const Mesh& mesh);

}  // namespace witan
