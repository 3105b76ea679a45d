#include "core/tensor/twin.h"

#include "core/tensor/transfer.h"

namespace witan {

TensorView twin_in(Arena& arena, const TensorView& x, const char* label) {
  if (x.empty() || x.device == arena.device()) return x;
  return arena.allocate(x.shape, x.dtype, label);
}

void bring(const Context& ctx, const TensorView& from, const TensorView& to) {
  if (from.data != to.data) transfer(ctx, from, to);
}

TensorView copy_in(const Context& ctx, Arena& arena, const TensorView& x, const char* label) {
  const TensorView twin = twin_in(arena, x, label);
  bring(ctx, x, twin);
  return twin;
}

}  // namespace witan
