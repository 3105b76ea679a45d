// The CUDA twin of core/ops/grouped_gemm.h, through cuBLAS; operands and offsets have been checked
// by grouped_gemm.cc. The offsets are host memory, read before this returns.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/context.h"
#include "core/ops/gemm.h"
#include "core/ops/gemm_kernel.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

// kBatched: one call of cublasGemmGroupedBatchedEx over all groups. kLoop: one product a group, on
// one stream.
enum class GroupedKernel { kBatched, kLoop };

// The table: cublasGemmGroupedBatchedEx is documented for results of the operands' type only, so
// bfloat16 operands with float32 results take the loop. float64 does too: it serves checks.
GroupedKernel choose_grouped_kernel(DType dtype, Products products);

// Per group g with rows [offsets[g], offsets[g + 1]): kNT: c_g [rows_g, n] = a_g [rows_g, k] b_g^T,
// b [groups, n, k]; kNN: the same with b [groups, k, n]; kTN: c_g [m, n] (+)= a_g^T b_g, a [rows,
// m], b [rows, n], c [groups, m, n]. Empty groups of kTN are zeroed where nothing is accumulated.
// With Products::kBfloat16 operands are RoundedOperands, once for all groups.
void grouped_gemm(const Context& ctx, GemmLayout layout, std::span<const std::int64_t> offsets,
                  const TensorView& a, const TensorView& b, const TensorView& c,
                  Accumulate accumulate);

// kTN into dw, then kNN into dx.
void grouped_gemm_backward(const Context& ctx, const TensorView& dy,
                           std::span<const std::int64_t> offsets, const TensorView& x,
                           const TensorView& w, const TensorView& dx, const TensorView& dw,
                           Accumulate accumulate_dw);

}  // namespace witan::ops::cuda
