// CUDA twins of core/ops/balance.h; operands have been checked.
#pragma once

#include "core/ops/balance.h"

namespace witan::ops::cuda {

void entropy_loss(const Context& ctx, double factor, double gradient_factor, const TensorView& s,
                  const TensorView& ds, const TensorView& loss);
void importance(const Context& ctx, const TensorView& x, const TensorView& indices,
                const TensorView& sums);
void importance_backward(const Context& ctx, double factor, const TensorView& gradient,
                         const TensorView& indices, const TensorView& dx);
void cv2_loss(const Context& ctx, double factor, const TensorView& sums, const TensorView& loss);
void load_factors(const Context& ctx, const LoadFactors& factors, double gradient_factor,
                  const TensorView& indices, const TensorView& f, const TensorView& coefficient);

}  // namespace witan::ops::cuda
