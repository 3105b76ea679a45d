// Tensors of a model on a GPU that code of the host works on: a twin is the tensor itself where it
// lies on the arena's device already, so that the same lines copy nothing on the CPU.
#pragma once

#include "core/base/context.h"
#include "core/tensor/arena.h"
#include "core/tensor/tensor_view.h"

namespace witan {

// x itself, or uninitialised memory of its shape and type from an arena of another device. "No
// tensor here" stays that.
TensorView twin_in(Arena& arena, const TensorView& x, const char* label);

// to = from, which are each other's twins: nothing to do if they are the same memory. As
// transfer(): a copy to the host waits for ctx.stream.
void bring(const Context& ctx, const TensorView& from, const TensorView& to);

// x itself, or a copy of it in the arena.
TensorView copy_in(const Context& ctx, Arena& arena, const TensorView& x, const char* label);

}  // namespace witan
