// A training run inside `witan verify`: from a config to a trainer on any mesh, one rank alone
// included.
#pragma once

#include <functional>
#include <string>

#include "configs/schema/run.pb.h"
#include "launch/data/sample_stream.h"
#include "launch/engine.h"
#include "launch/trainer.h"
#include "parallel/mesh.h"

namespace witan {

// How a test plants a fault. Each is told the check that runs; null: nothing happens.
struct VerifyHooks {
  // The gradients of a side that is compared with a reference.
  std::function<void(const std::string& check, ParamStore& params)> after_gradients;
  // A checkpoint that was just written; on world rank 0.
  std::function<void(const std::string& check, const std::string& folder)> after_save;
  // What was just loaded.
  std::function<void(const std::string& check, ParamStore& params)> after_load;
};

class VerifySession {
 public:
  // `runtime`: threads; its types are those of run.runtime.precision. The mesh outlives the
  // session.
  VerifySession(const configs::RunConfig& run, const Mesh& mesh, const Runtime& runtime);

  const configs::RunConfig& run() const { return run_; }
  const Mesh& mesh() const { return engine_.mesh(); }
  Engine& engine() { return engine_; }
  Trainer& trainer() { return trainer_; }
  ParamStore& params() { return engine_.params(); }
  const ParamTable& table() const { return engine_.table(); }

  // Weights of order one, biases and norms included, the same at any layout: with the small weights
  // of a fresh model many gradients would drown in rounding.
  void wake();

 private:
  configs::RunConfig run_;
  SampleStream stream_;
  Engine engine_;
  Trainer trainer_;
};

// The gradients of the losses of one step, summed over all ranks, in session.params().grad, and
// the losses. With counts of the previous step there is one before it, which moves no weight.
// `run`: optimizer.lr 0, zero1 off (gradient_config). Collective over the session's mesh.
StepMetrics compute_gradients(VerifySession& session);

// A config for compute_gradients: nothing moves, every rank keeps the whole gradient, no row is
// rounded on its way.
configs::RunConfig gradient_config(const configs::RunConfig& run,
                                   configs::RuntimeConfig::Precision precision);

// Every choice is written to this file, or taken from it; nothing changes where the routing is
// forced to be balanced, or without experts. One rank alone: a file of its own.
void record_routing(configs::RunConfig& run, const std::string& file);
void replay_routing(configs::RunConfig& run, const std::string& file);

}  // namespace witan
