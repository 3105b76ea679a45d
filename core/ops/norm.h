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

// sum = a + b, then the same of sum: the residual stream is normed on its way to memory. The bits
// are those of add() and rmsnorm(). sum may alias a or b.
void add_rmsnorm(const Context& ctx, const TensorView& a, const TensorView& b, const TensorView& w,
                 double eps, const TensorView& sum, const TensorView& y, const TensorView& rstd);

// dx is overwritten or, on the residual stream, accumulated (in the same pass); dw accumulates.
void rmsnorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                      const TensorView& w, const TensorView& rstd, const TensorView& dx,
                      Accumulate accumulate_dx, const TensorView& dw);

// mean, rstd [rows] are written for the backward.
void layernorm(const Context& ctx, const TensorView& x, const TensorView& w, const TensorView& b,
               double eps, const TensorView& y, const TensorView& mean, const TensorView& rstd);

// As add_rmsnorm; `bias` is LayerNorm's b.
void add_layernorm(const Context& ctx, const TensorView& a, const TensorView& b,
                   const TensorView& w, const TensorView& bias, double eps, const TensorView& sum,
                   const TensorView& y, const TensorView& mean, const TensorView& rstd);

// dx as above; dw and db accumulate.
void layernorm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                        const TensorView& w, const TensorView& mean, const TensorView& rstd,
                        const TensorView& dx, Accumulate accumulate_dx, const TensorView& dw,
                        const TensorView& db);

}  // namespace witan::ops
