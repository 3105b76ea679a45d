// What the key of a graph says of tensors and of the memory that kernels work in.
#pragma once

#include "core/base/graph_segment.h"
#include "core/tensor/arena.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/tensor_view.h"

namespace witan {

inline void add_to(GraphKey& key, const TensorView& x) {
  key.add(x.data);
  key.add(static_cast<std::int64_t>(x.dtype));
  key.add(x.shape.rank());
  for (int axis = 0; axis < x.shape.rank(); ++axis) key.add(x.shape[axis]);
}

// Where the arena's next tensors will lie.
inline void add_to(GraphKey& key, const Arena& arena) {
  const Arena::Mark mark = arena.mark();
  key.add(arena.generation());
  key.add(static_cast<std::int64_t>(mark.block));
  key.add(static_cast<std::int64_t>(mark.used));
}

// The stream, its scratch memory and how products read their operands.
inline void add_to(GraphKey& key, const Context& ctx) {
  const cuda::ScratchBuffer scratch = cuda::scratch_of(ctx);
  key.add(ctx.stream.handle);
  key.add(scratch.data);
  key.add(static_cast<std::int64_t>(scratch.bytes));
  key.add(static_cast<std::int64_t>(ctx.products));
}

}  // namespace witan
