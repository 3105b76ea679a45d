// Routing weights on their way between the choices of tokens and the slots of experts, where a
// choice or a slot may have no counterpart.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// y = 0, then y[to[i]] = x[from[i]] for every i whose from[i] and to[i] are not kNoChoice. x [n], y
// [m], float32 or float64 of any shape; from and to [entries] int32, no value of `to` twice. An
// absent list stands for 0, 1, 2, ...; at least one is there.
void move_weights(const Context& ctx, const TensorView& x, const TensorView& from,
                  const TensorView& y, const TensorView& to);

// Entries of the lists.
inline std::int64_t weights_moved(const TensorView& from, const TensorView& to) {
  if (!from.empty()) return from.size();
  return to.empty() ? 0 : to.size();
}

}  // namespace witan::ops
