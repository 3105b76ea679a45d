// What every layer needs besides its own tensors.
#pragma once

#include <array>
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
inline constexpr Recompute kRecomputeLevels[] = {Recompute::kNone, Recompute::kMoeActivation,
                                                 Recompute::kMoeLayer, Recompute::kLayer};

// Memory of one micro-batch. `saved`: what the backward reads. `choice`: the routing, which
// outlives even a recomputed layer, always in host memory (device_choice() beside it on a device).
// `scratch`: temporaries, in stack order.
//
// What is decided for each token, from the logits to the weights, is computed on the model's device
// where the layer's choice allows it (MoeLayer::decides_on_device), else by the host. The host
// works in arenas beside those of the device, of the same lifetime; where the model is on the host
// they are the same arenas.
class ModelArenas {
 public:
  // `rows`: memory for the tensors that are dispatched (TokenExchange::memory()); null: any.
  explicit ModelArenas(Device device, BlockSource* rows = nullptr)
      : saved(device, "activations", rows),
        choice(Device{}, "routing"),
        scratch(device, "scratch", rows),
        steady_(device, "activations of graphs", rows),
        host_saved_(Device{}, "routing for the backward"),
        host_scratch_(Device{}, "routing scratch"),
        device_choice_(device, "routing indices") {}
  void reset() {
    for (Arena* arena : all()) arena->reset();
  }
  Arena& host_saved() { return on_host() ? saved : host_saved_; }
  Arena& host_scratch() { return on_host() ? scratch : host_scratch_; }
  // Activations whose extents follow from those of the batch. Apart from the others, which follow
  // from what the router chose, their addresses repeat from step to step: graphs need that.
  Arena& steady() { return steady_apart_ ? steady_ : saved; }
  void keep_steady_apart() { steady_apart_ = true; }
  std::size_t activation_bytes() const { return saved.bytes_reserved() + steady_.bytes_reserved(); }
  // Index tensors that the device reads: choices it has made, and those of the plans.
  Arena& device_choice() { return on_host() ? choice : device_choice_; }
  // Those of what a layer decides, on the model's device or on the host.
  Arena& decision_saved(bool on_device) { return on_device ? saved : host_saved(); }
  Arena& decision_scratch(bool on_device) { return on_device ? scratch : host_scratch(); }
  Arena& decision_choice(bool on_device) { return on_device ? device_choice() : choice; }
  // Of the routing, on the host and on the device.
  std::size_t routing_bytes() const {
    return choice.bytes_reserved() + host_saved_.bytes_reserved() + host_scratch_.bytes_reserved() +
           device_choice_.bytes_reserved();
  }

  Arena saved, choice, scratch;

 private:
  bool on_host() const { return saved.device().is_cpu(); }
  std::array<Arena*, 7> all() {
    return {&saved, &choice, &scratch, &host_saved_, &host_scratch_, &device_choice_, &steady_};
  }
  Arena steady_, host_saved_, host_scratch_, device_choice_;
  bool steady_apart_ = false;
};

// What a layer keeps for its backward, but its choice: given back at the end.
class ActivationMemory {
 public:
  explicit ActivationMemory(ModelArenas& arenas)
      : saved_(arenas.saved), steady_(arenas.steady()), host_saved_(arenas.host_saved()) {}

 private:
  ArenaScope saved_, steady_, host_saved_;
};

// A forward without a backward: nothing of a layer outlives it.
class LayerMemory {
 public:
  explicit LayerMemory(ModelArenas& arenas)
      : activations_(arenas), choice_(arenas.choice), device_choice_(arenas.device_choice()) {}

 private:
  ActivationMemory activations_;
  ArenaScope choice_, device_choice_;
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
  // Stretches of a layer whose work follows from the shapes are launched as CUDA graphs.
  bool cuda_graphs = false;
  // [experts]: choices of this micro-batch in all MoE layers; empty: the layer's own.
  std::span<const std::int64_t> pooled_counts = {};
  RankGroup* expert_ranks = &RankGroup::alone();  // the expert-parallel group
};

}  // namespace witan
