// Dense matrix products on row-major, contiguous matrices; float32 or float64, all operands of one
// type (but see operand_dtype()). Accumulation is in the type of the result. On the CPU, which
// kernel runs is a pure function of CPU features and shape (gemm_kernel.h); on CUDA it is cuBLAS.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

enum class Accumulate : bool { kNo = false, kYes = true };

// How a tensor of `dtype` is best stored that nothing but products reads: as bfloat16 on the CPU
// where products round it to that anyway. The products below take operands of either type; the bits
// of the result are the same.
DType operand_dtype(const Context& ctx, DType dtype);

// y = x w^T (+ y): x [m, k], w [n, k], y [m, n]. The forward of a linear layer.
void gemm_nt(const Context& ctx, const TensorView& x, const TensorView& w, const TensorView& y,
             Accumulate accumulate = Accumulate::kNo);

// dx = dy w (+ dx): dy [m, n], w [n, k], dx [m, k]. The gradient of its input.
void gemm_nn(const Context& ctx, const TensorView& dy, const TensorView& w, const TensorView& dx,
             Accumulate accumulate = Accumulate::kNo);

// dw = dy^T x (+ dw): dy [m, n], x [m, k], dw [n, k]. The gradient of its weight; m may be 0 (dw is
// then 0 or unchanged).
void gemm_tn(const Context& ctx, const TensorView& dy, const TensorView& x, const TensorView& dw,
             Accumulate accumulate = Accumulate::kYes);

// The backward of a linear layer, the two products above in one call: dw (+)= dy^T x, dx = dy w.
// With bfloat16 products on CUDA dy is rounded once for both.
void gemm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                   const TensorView& w, const TensorView& dx, const TensorView& dw,
                   Accumulate accumulate_dw = Accumulate::kYes);

}  // namespace witan::ops
