// The CUDA twin of cross_entropy.h; operands have been checked by cross_entropy.cc.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void cross_entropy(const Context& ctx, const TensorView& logits, const TensorView& targets,
                   const TensorView& loss, const TensorView& dlogits);

}  // namespace witan::ops::cuda
