// What every layer needs besides its own tensors.
#pragma once

#include <span>

#include "core/base/context.h"
#include "core/model/rank_group.h"
#include "core/model/router.h"
#include "core/model/token_exchange.h"
#include "core/ops/gemm.h"
#include "core/tensor/arena.h"

namespace witan {

// How much a forward keeps for the backward (schema: TrainConfig.Recompute).
enum class Recompute { kNone, kMoeActivation, kMoeLayer, kLayer };

// Memory of one micro-batch. `saved`: what the backward reads. `choice`: the routing, which
// outlives even a recomputed layer. `scratch`: temporaries, in stack order.
struct ModelArenas {
  // `rows`: memory for the tensors that are dispatched (TokenExchange::memory()); null: any.
  explicit ModelArenas(Device device, BlockSource* rows = nullptr)
      : saved(device, "activations", rows),
        choice(device, "routing"),
        scratch(device, "scratch", rows) {}
  void reset() {
    saved.reset();
    choice.reset();
    scratch.reset();
  }
  Arena saved, choice, scratch;
};

struct ModelContext {
  Context ctx;
  TokenExchange* exchange = nullptr;
  ModelArenas* arenas = nullptr;
  RoutingHook* hook = nullptr;
  Recompute recompute = Recompute::kNone;
  int exchange_chunks = 1;  // parts of a micro-batch that travel apart, the same on every rank
  // kNo: the next backward of a layer overwrites its experts' gradients.
  ops::Accumulate expert_gradients = ops::Accumulate::kYes;
  // Most slots that this rank's experts work on at once, the same on every rank; 0: no limit.
  std::int64_t max_rows = 0;
  RankGroup* all_ranks = &RankGroup::alone();
  // [experts]: choices of this micro-batch in all MoE layers; empty: the layer's own.
  std::span<const std::int64_t> pooled_counts = {};
  RankGroup* expert_ranks = &RankGroup::alone();  // the expert-parallel group
};

}  // namespace witan
