// The model that a command line names: a checkpoint, a run folder (its newest checkpoint), or a
// Hugging Face folder.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "configs/load.h"
#include "launch/engine.h"
#include "parallel/communicator.h"
#include "parallel/mpi_environment.h"

namespace witan {

// For the --help of commands that take one.
inline constexpr const char* kModelFolderHelp =
    "A checkpoint, a run folder (its newest checkpoint), or a Hugging Face folder (Mixtral, Llama)";

struct ModelFolder {
  bool ok = false;               // else rank 0 has said why: exit code 2
  std::string folder;            // holds the weights
  configs::LoadedConfig config;  // of the run; of a Hugging Face folder: its model alone
};

// Rank 0 looks; every rank gets the same. parallel.expert is that of `overrides`, not that of the
// run: it belongs to the ranks there are now. A tokenizer whose files lie in the folder takes the
// place of data.tokenizer, unless an override names another; where nothing says how the text became
// tokens, it is "none". Collective.
ModelFolder find_model(const std::string& path, const std::vector<std::string>& overrides,
                       Communicator& world);

// --tag: the index of the tag `name` in the model's table of experts by tag; 0 where the model has
// none. Nothing, and rank 0 has said why, for a name that is not there and for none where one is
// needed. Collective.
std::optional<std::int32_t> find_tag(const configs::ModelConfig& model, const std::string& name,
                                     Communicator& world);
constexpr const char* kTagHelp =
    "Tag of the tokens, where the model allows experts by tag (model.moe.allowed_experts)";

// The weights of a model, on the ranks there are.
class LoadedModel {
 public:
  // Collective.
  LoadedModel(const ModelFolder& source, const MpiEnvironment& mpi, bool gradients = false);

  const Mesh& mesh() const { return mesh_; }
  Engine& engine() { return engine_; }
  bool leader() const { return mesh_.world_rank() == 0; }

 private:
  Runtime runtime_;
  Mesh mesh_;
  Engine engine_;
};

// Runs `make` on rank 0 and gives what it returns to every rank. If it throws a UserError, rank 0
// prints it, and every rank gets nothing: exit code 2. Collective.
std::optional<std::string> from_leader(Communicator& world,
                                       const std::function<std::string()>& make);

}  // namespace witan
