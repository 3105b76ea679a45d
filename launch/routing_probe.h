// Churn: the share of a fixed probe set of tokens whose first expert changed since the last look.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/router.h"
#include "parallel/communicator.h"

namespace witan {

// As a RoutingHook it only watches: every token that passes is part of the probe set, so it is set
// on the model for the same batches each time.
class RoutingProbe final : public RoutingHook {
 public:
  // `layers`: of the whole model.
  explicit RoutingProbe(std::int64_t layers);

  void on_route(int layer, const Batch& batch, const TensorView& indices,
                std::int64_t experts) override;

  // Per layer (MoE layers are those that have seen tokens): the share of all ranks' tokens whose
  // first choice differs from that of the last call; -1 at the first call and where there is
  // nothing to compare. Then starts anew. Collective.
  std::vector<double> finish(Communicator& world);

 private:
  std::vector<std::vector<std::int32_t>> now_, before_;  // [layers][tokens]
};

}  // namespace witan
