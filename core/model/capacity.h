// Capacity of the experts: which (token, choice) pairs of one rank's micro-batch find a place.
// docs/numerics.md, section "Capacity".
#pragma once

#include <cstdint>

#include "configs/schema/model.pb.h"
#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan {

class Capacity {
 public:
  // Without a capacity in the config nothing is ever dropped.
  explicit Capacity(const configs::MoeConfig& config, std::int64_t top_k);

  bool limits(bool training) const { return factor(training) > 0.0; }
  bool renormalizes() const { return config_.renormalize_after_drop(); }
  // Every expert gets all its places, filled up with padding.
  bool pads(bool training) const { return limits(training) && config_.pad_to_capacity(); }
  // Places of each expert.
  std::int64_t places(std::int64_t tokens, bool training) const;

  // kept [tokens, top_k] int32 = chosen where the pair finds a place, else ops::kNoChoice. weights
  // [tokens, top_k] of the chosen; s [tokens, experts]. Ties go to the earlier token. All on
  // ctx.device; nothing waits.
  void drop(const Context& ctx, const TensorView& chosen, const TensorView& weights,
            const TensorView& s, bool training, const TensorView& kept) const;

 private:
  double factor(bool training) const {
    return training ? config_.factor() : config_.evaluation_factor();
  }

  configs::CapacityConfig config_;
  std::int64_t top_k_;
  std::int64_t experts_;
};

}  // namespace witan
