// The CUDA twins of core/ops/norm.h; operands have been checked by norm.cc.
#pragma once

#include "core/base/context.h"
#include "core/ops/gemm.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void rmsnorm(const Context& ctx, const TensorView& x, const TensorView& w, double eps,
             const TensorView& y, const TensorView& rstd);

void add_rmsnorm(const Context& ctx, const TensorView& a, const TensorView& b, const TensorView& w,
                 double eps, const TensorView& sum, const TensorView& y, const TensorView& rstd);

void rmsnorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                      const TensorView& w, const TensorView& rstd, const TensorView& dx,
                      Accumulate accumulate_dx, const TensorView& dw);

void layernorm(const Context& ctx, const TensorView& x, const TensorView& w, const TensorView& b,
               double eps, const TensorView& y, const TensorView& mean, const TensorView& rstd);

void add_layernorm(const Context& ctx, const TensorView& a, const TensorView& b,
                   const TensorView& w, const TensorView& bias, double eps, const TensorView& sum,
                   const TensorView& y, const TensorView& mean, const TensorView& rstd);

void layernorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                        const TensorView& w, const TensorView& mean, const TensorView& rstd,
                        const TensorView& dx, Accumulate accumulate_dx, const TensorView& dw,
                        const TensorView& db);

}  // namespace witan::ops::cuda
