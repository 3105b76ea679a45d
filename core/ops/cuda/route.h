// The CUDA twin of ops::route_topk (core/ops/topk.h); operands have been checked by topk.cc.
#pragma once

#include "core/base/context.h"
#include "core/ops/topk.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void route_topk(const Context& ctx, const RouteKind& kind, const TensorView& z,
                const TensorView& bias, const TensorView& s, const TensorView& lse,
                const TensorView& indices, const TensorView& weights);

}  // namespace witan::ops::cuda
