// What is planned: a model, its batch and how a step is done, from a config. Nothing is allocated.
#pragma once

#include <cstdint>

#include "configs/schema/run.pb.h"
#include "core/model/model_context.h"
#include "core/model/param_table.h"
#include "parallel/exchange_options.h"

namespace witan {

struct PlanSubject {
  // `bf16_activation_bytes`: of an activation with runtime.precision BF16, for a machine that the
  // config does not ask for itself; with device CUDA they are in float, on the CPU too but for
  // operand_bytes.
  explicit PlanSubject(const configs::RunConfig& run, std::int64_t bf16_activation_bytes = 4);

  configs::RunConfig run;
  ParamTable table;
  ModelDims dims;
  ExchangeOptions exchange;
  std::int64_t value_bytes;       // of a weight, a gradient, a moment of the optimizer
  std::int64_t activation_bytes;  // of an element of a tensor between layers
  // Of what only the experts' products read (ExpertBank::stored_type()).
  std::int64_t operand_bytes;
  std::int64_t wire_bytes;  // of an activation between nodes
  // Of each rank on a GPU; a Hopper's until somebody knows the GPU.
  std::int64_t cublas_workspace;

  bool on_cuda() const { return run.device() == configs::CUDA; }
  std::int64_t seq_len() const { return run.data().seq_len(); }
  std::int64_t tokens_per_step() const { return run.train().global_batch() * seq_len(); }
};

// How ranks share a step.
struct PlanLayout {
  int ranks = 1;
  int ranks_per_node = 1;
  int expert_parallel = 1;
  std::int64_t micro_batch = 1;    // sequences of a rank in one forward
  std::int64_t micro_batches = 1;  // of a rank and step
  Recompute recompute = Recompute::kNone;

  int replicas() const { return ranks / expert_parallel; }
  // Ranks of an expert-parallel group, neighbours in the world, on the node of one of them.
  int near_ranks() const {
    return ranks_per_node < expert_parallel ? ranks_per_node : expert_parallel;
  }
  bool one_node() const { return ranks <= ranks_per_node; }
};

// The layout that the config itself asks for on so many ranks: parallel.expert, train.micro_batch,
// train.recompute.
PlanLayout configured_layout(const configs::RunConfig& run, int ranks, int ranks_per_node);

const char* name_of(Recompute recompute);

}  // namespace witan
