// The CPU side of gemm and grouped_gemm: one product on this thread, by either kernel, or split
// over all threads.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/ops/cpu/gemm_kernels.h"
#include "core/ops/gemm_kernel.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// The task of C (+)= op(A) op(B), C [m, n] summed over k, all matrices contiguous: kNN: A [m, k], B
// [k, n]; kNT: A [m, k], B [n, k]; kTN: A [k, m], B [k, n].
template <class T, class A, class B>
cpu::GemmTask<T, A, B> gemm_task(GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
                                 const A* a, const B* b, T* c, bool accumulate) {
  const bool a_transposed = layout == GemmLayout::kTN;
  const bool b_transposed = layout == GemmLayout::kNT;
  return {
      m, n, k,         a, a_transposed ? m : k, a_transposed, b, b_transposed ? k : n, b_transposed,
      c, n, accumulate};
}

// The part of a task that makes rows [row, row + rows) and columns [column, column + columns) of C.
template <class T, class A, class B>
cpu::GemmTask<T, A, B> gemm_part(const cpu::GemmTask<T, A, B>& task, std::int64_t row,
                                 std::int64_t rows, std::int64_t column, std::int64_t columns) {
  cpu::GemmTask<T, A, B> part = task;
  part.m = rows;
  part.n = columns;
  part.a += task.a_transposed ? row : row * task.lda;
  part.b += task.b_transposed ? column * task.ldb : column;
  part.c += row * task.ldc + column;
  return part;
}

// An operand of products as the kernels read it: with products in bfloat16, the copy that is kept
// of weights (rounded_weights.h), if there is one.
TensorView as_read(const Context& ctx, const TensorView& x);

// f(A{}, B{}) with the types of the values of two operands that check_factor() has passed: float or
// double, and for float Bfloat16.
template <class F>
void dispatch_operands(const TensorView& a, const TensorView& b, const F& f) {
  const auto with_a = [&](auto type) {
    if (b.dtype == DType::kBfloat16) return f(type, Bfloat16{});
    f(type, float{});
  };
  if (a.dtype == DType::kFloat64) return f(double{}, double{});
  if (a.dtype == DType::kBfloat16) return with_a(Bfloat16{});
  with_a(float{});
}

// The type of the sums of products of values of A.
template <class A>
using SumOf = std::conditional_t<std::is_same_v<A, double>, double, float>;

// The register tile of the level in use.
template <class T>
cpu::GemmTiling own_gemm_tiling();

// On this thread (oneDNN: on all threads, unless inside a parallel loop).
template <class T, class A, class B>
void run_gemm(GemmKernel kernel, const cpu::GemmTask<T, A, B>& task);

// On all threads.
template <class T, class A, class B>
void run_gemm_parallel(GemmKernel kernel, const cpu::GemmTask<T, A, B>& task);

}  // namespace witan::ops
