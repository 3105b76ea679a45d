// Models, and a training state in which every value says where it belongs: a pure function of its
// tensor's name and its index in the whole tensor. So a state that was loaded can be compared at
// any layout.
#pragma once

#include <memory>
#include <string>

#include "configs/schema/run.pb.h"
#include "core/model/param_store.h"
#include "launch/checkpoint/checkpoint.h"
#include "optim/sharded_adamw.h"
#include "parallel/mesh.h"

namespace witan {

// All layers MoE, as Mixtral has it; grouped-query attention. 12 experts.
configs::RunConfig mixtral_run();
// Dense, tied, with attention biases.
configs::RunConfig llama_run();
// What `transformers` does not have: a dense first layer, shared and biased experts' router,
// qk-norm, LayerNorm.
configs::RunConfig mixed_run();

// A rank's part of a run.
class RankState {
 public:
  RankState(const configs::RunConfig& run, const Mesh& mesh, DType dtype = DType::kFloat32);

  ParamStore& params() { return *params_; }
  ShardedAdamW& optimizer() { return *optimizer_; }
  const ParamTable& table() const { return table_; }

  // Weights, buffers and moments that depend on `seed`.
  void fill(std::uint64_t seed);
  // Expects them, bit for bit. Collective.
  void expect_weights(std::uint64_t seed) const;
  void expect_buffers(std::uint64_t seed) const;
  void expect_moments(std::uint64_t seed);

 private:
  ParamTable table_;
  std::unique_ptr<ParamStore> params_;
  std::unique_ptr<ShardedAdamW> optimizer_;
};

TrainState some_state(std::int64_t step);
void expect_equal(const TrainState& found, const TrainState& expected);

}  // namespace witan
