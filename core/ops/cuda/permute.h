// The CUDA twins of core/ops/permute.h; operands have been checked by permute.cc.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void permute(const Context& ctx, const TensorView& x, const TensorView& index, const TensorView& y);

void permute(const Context& ctx, const TensorView& first, const TensorView& second,
             const TensorView& index, const TensorView& y);

void permute_backward(const Context& ctx, const TensorView& dy, const TensorView& index,
                      const TensorView& dx);

void scatter(const Context& ctx, const TensorView& x, const TensorView& index, const TensorView& y);

void unpermute_sum(const Context& ctx, const TensorView& x, const TensorView& begin,
                   const TensorView& index, const TensorView& y, bool accumulate);

}  // namespace witan::ops::cuda
