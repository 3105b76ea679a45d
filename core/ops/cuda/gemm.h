// The CUDA twin of core/ops/gemm.h, through cuBLAS; operands have been checked by gemm.cc.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/ops/gemm.h"
#include "core/ops/gemm_kernel.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

// c [m, n] (+)= op(a) op(b), summed over k: kNN: a [m, k], b [k, n]; kNT: a [m, k], b [n, k]; kTN:
// a [k, m], b [k, n]. With Products::kBfloat16, float32 operands are read from their kept
// copies or rounded into scratch (RoundedOperands), and summed in float32.
void gemm(const Context& ctx, GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
          const TensorView& a, const TensorView& b, const TensorView& c, Accumulate accumulate);

// dw (+)= dy^T x, dx = dy w: dy [m, n], x [m, k], w [n, k].
void gemm_backward(const Context& ctx, const TensorView& dy, const TensorView& x,
                   const TensorView& w, const TensorView& dx, const TensorView& dw,
                   Accumulate accumulate_dw);

}  // namespace witan::ops::cuda
