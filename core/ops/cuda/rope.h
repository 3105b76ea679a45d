// The CUDA twins of rope.h; operands have been checked by rope.cc.
#pragma once

#include "core/base/context.h"
#include "core/ops/rope.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void rope(const Context& ctx, const RopeShape& shape, const TensorView& qkv,
          const TensorView& positions, const TensorView& q_norm, const TensorView& k_norm,
          const TensorView& out, const TensorView& rstd);

void rope_backward(const Context& ctx, const RopeShape& shape, const TensorView& dout,
                   const TensorView& positions, const TensorView& qkv, const TensorView& q_norm,
                   const TensorView& k_norm, const TensorView& rstd, const TensorView& dqkv,
                   const TensorView& dq_norm, const TensorView& dk_norm);

}  // namespace witan::ops::cuda
