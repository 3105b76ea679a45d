// A model on a mesh: what train, eval, generate and logits have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "core/model/transformer.h"
#include "launch/runtime.h"
#include "parallel/exchange_options.h"
#include "parallel/mesh.h"
#include "parallel/rank_group.h"

namespace witan {

struct MemoryPart {
  std::string name;
  std::int64_t bytes = 0;
};

class Engine {
 public:
  struct Options {
    bool gradients = false;
    std::int64_t tags = 1;
    Recompute recompute = Recompute::kNone;
    ExchangeOptions exchange = {};  // its node is the mesh's
  };
  Engine(const configs::ModelConfig& model, const Mesh& mesh, const Runtime& runtime,
         const Options& options);

  const Mesh& mesh() const { return mesh_; }
  const Runtime& runtime() const { return runtime_; }
  const ParamTable& table() const { return table_; }
  ParamStore& params() { return params_; }
  Transformer& model() { return model_; }

  // What this rank's memory goes to: weights, gradients, activations, routing, scratch, exchange
  // buffers.
  std::vector<MemoryPart> memory_parts() const;

 private:
  const Mesh& mesh_;
  Runtime runtime_;
  ParamTable table_;
  ParamStore params_;
  std::unique_ptr<TokenExchange> exchange_;
  CommunicatorRankGroup all_ranks_, expert_ranks_;
  Transformer model_;
};

// Training FLOPs of one token (docs/numerics.md, "FLOPs"): 6 x active matrix parameters, the head
// included and the embedding not, plus 3 x attention at this sequence length. Recomputed work does
// not count. A module of multi-token prediction counts with the head once more, over the
// positions it works on.
double training_flops_per_token(const configs::ModelConfig& model, std::int64_t seq_len);

}  // namespace witan
