// Token embedding: tokens [rows] int32 in 0 .. vocab - 1; w [vocab, d]; y [rows, d].
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

void embedding(const Context& ctx, const TensorView& tokens, const TensorView& w,
               const TensorView& y);

// dw [vocab, d] accumulates, in token order for every element (deterministic at any thread count).
void embedding_backward(const Context& ctx, const TensorView& tokens, const TensorView& dy,
                        const TensorView& dw);

}  // namespace witan::ops
