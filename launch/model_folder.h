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
// run: it belongs to the ranks there are now. Where nothing says how the text became tokens,
// data.tokenizer is "none". Collective.
ModelFolder find_model(const std::string& path, const std::vector<std::string>& overrides,
                       Communicator& world);

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
