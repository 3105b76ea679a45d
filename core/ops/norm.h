// RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * w, and LayerNorm (Ba et al.
// 2016): y = (x - mean) / sqrt(var + eps) * w + b. x, y [rows, d]; w, b [d]; float32 or float64;
// reductions in double.
#pragma once

#include "core/base/context.h"
#include "core/ops/gemm.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// rstd [rows] is written for the backward.
void rmsnorm(const Context& ctx, const TensorView& x, const TensorView& w, double eps,
             const TensorView& y, const TensorView& rstd);

// dx is overwritten or, on the residual stream, accumulated; dw accumulates.
void rmsnorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                      const TensorView& w, const TensorView& rstd, const TensorView& dx,
                      Accumulate accumulate_dx, const TensorView& dw);

// mean, rstd [rows] are written for the backward.
void layernorm(const Context& ctx, const TensorView& x, const TensorView& w, const TensorView& b,
               double eps, const TensorView& y, const TensorView& mean, const TensorView& rstd);

// dx as above; dw and db accumulate.
void layernorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                        const TensorView& w, const TensorView& mean, const TensorView& rstd,
                        const TensorView& dx, Accumulate accumulate_dx, const TensorView& dw,
                        const TensorView& db);

}  // namespace witan::ops
