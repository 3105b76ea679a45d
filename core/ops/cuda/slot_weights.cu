// Routing weights between choices and slots on CUDA: one number for each entry of the lists.
#include "core/ops/cuda/slot_weights.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/topk.h"

namespace witan::ops::cuda {
namespace {

// y[to[i]] = x[from[i]]; a null list is the numbers of its entries. Moves the lists and each weight
// once in and once out, those of one side scattered.
template <class T>
__global__ void move_weights_kernel(const T* x, const std::int32_t* from, std::int64_t entries,
                                    const std::int32_t* to, T* y) {
  for (std::int64_t i = first_index(); i < entries; i += index_stride()) {
    const std::int64_t source = from == nullptr ? i : from[i];
    const std::int64_t target = to == nullptr ? i : to[i];
    if (source != kNoChoice && target != kNoChoice) y[target] = x[source];
  }
}

}  // namespace

void move_weights(const Context& ctx, const TensorView& x, const TensorView& from,
                  const TensorView& y, const TensorView& to) {
  const std::int64_t entries = weights_moved(from, to);
  const std::int32_t* source = from.empty() ? nullptr : from.as<std::int32_t>();
  const std::int32_t* target = to.empty() ? nullptr : to.as<std::int32_t>();
  if (y.size() == 0) return;
  fill(ctx, y, 0.0);
  if (entries == 0) return;
  dispatch_float(x.dtype, "move_weights", [&](auto zero) {
    using T = decltype(zero);
    launch(move_weights_kernel<T>, flat_grid(entries), dim3(kFlatThreads), 0, ctx.stream, x.as<T>(),
           source, entries, target, y.as<T>());
  });
}

}  // namespace witan::ops::cuda
