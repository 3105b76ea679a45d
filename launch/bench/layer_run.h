// One MoE layer on a mesh, with random input, ready to be timed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/model/moe_layer.h"
#include "core/model/param_table.h"
#include "launch/bench/forced_load.h"
#include "launch/bench/shapes.h"
#include "launch/runtime.h"
#include "parallel/mesh.h"

namespace witan {

// The exchange that training with this config would use on this mesh. Collective over the
// expert-parallel group.
std::unique_ptr<TokenExchange> exchange_of(const configs::RunConfig& run, const Mesh& mesh,
                                           Device device);

class LayerRun {
 public:
  // Each rank takes an even share of the shape's tokens. Outlived by the mesh. A load of no experts
  // forces nothing: the router chooses. One that does not train has no gradients and no backward,
  // as in evaluation.
  LayerRun(const LayerShape& shape, const Mesh& mesh, const Runtime& runtime,
           const ForcedLoad::Load& load, bool trains = true);
  const ForcedLoad::Load& load() const { return asked_; }

  // Collective; backward follows forward.
  void forward();
  void backward();
  void forward_backward() {
    forward();
    backward();
  }

  // Of this rank's tokens. 18 T k d ff for SwiGLU, a third of it forward; the router not counted.
  double forward_flop() const;
  double backward_flop() const { return 2.0 * forward_flop(); }
  // What this rank has to read and write at least, every tensor once: weights, input, output and
  // what is kept for the backward; there also the gradients of the weights, which are overwritten.
  double forward_bytes() const;
  double backward_bytes() const;

 private:
  double expert_weights() const;     // elements on this rank
  double read_weight_bytes() const;  // of them, as products read them
  double kept_bytes() const;         // of what the forward keeps

  LayerShape shape_;
  ParamTable table_;
  ParamStore params_;
  std::unique_ptr<TokenExchange> exchange_;
  MoeLayer layer_;
  ModelArenas arenas_;
  std::vector<std::int32_t> tokens_;  // ids, for routers that look at them
  Tensor placed_tokens_;              // the same on the device
  Batch batch_;
  std::vector<std::int32_t> tags_;
  ForcedLoad::Load asked_;
  std::optional<ForcedLoad> load_;
  ModelContext context_;
  Arena rows_;                  // where the exchange wants what is dispatched
  TensorView x_, y_, dx_, dy_;  // [tokens, d]
  MoeLayer::Saved saved_;
};

}  // namespace witan
