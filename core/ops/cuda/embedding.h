// The CUDA twin of embedding.h's backward (the forward is a permute of rows); operands have been
// checked by embedding.cc.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void embedding_backward(const Context& ctx, const TensorView& tokens, const TensorView& dy,
                        const TensorView& dw);

}  // namespace witan::ops::cuda
