// A whole training run in memory but for its data: random tokens in a temporary folder.
#pragma once

#include <string>

#include "configs/schema/run.pb.h"
#include "launch/bench/forced_load.h"
#include "launch/data/sample_stream.h"
#include "launch/engine.h"
#include "launch/trainer.h"

namespace witan {

// A folder below the system's temporary folder, removed at the end with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class StepRun {
 public:
  // `run` with its data replaced by random tokens of its vocabulary; each rank writes its own.
  // Outlived by the mesh.
  StepRun(const configs::RunConfig& run, const Mesh& mesh, const Runtime& runtime);

  // One optimizer step. Collective.
  void step();

  // The load of every MoE layer, from the next step on.
  void force_load(const ForcedLoad::Load& load);

  Trainer& trainer() { return trainer_; }
  Engine& engine() { return engine_; }
  std::int64_t tokens() const { return run_.train().global_batch() * run_.data().seq_len(); }
  double flop() const;  // of all ranks, by docs/numerics.md, "FLOPs"
  // What this rank has to read and write at least: weights three times (forward, backward, update),
  // gradients three times (zero, add, read), the optimizer's state and the activations twice.
  double bytes();

 private:
  TemporaryFolder folder_;
  configs::RunConfig run_;
  SampleStream stream_;
  Engine engine_;
  Trainer trainer_;
};

}  // namespace witan
