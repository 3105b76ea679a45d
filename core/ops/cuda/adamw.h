// The CUDA twin of core/ops/adamw.h; operands have been checked by adamw.cc.
#pragma once

#include "core/base/context.h"
#include "core/ops/adamw.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void adamw(const Context& ctx, const AdamWStep& step, const TensorView& w, const TensorView& dw,
           const TensorView& m, const TensorView& v);

}  // namespace witan::ops::cuda
