// One thread's matrix product: packed, cache-blocked, vectorised. core/ops/gemm_cpu.cc splits
// products over threads.
#pragma once

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace witan::cpu {

// C (+)= A B with A [m, k], B [k, n] and C [m, n]; lda, ldb, ldc are the elements between rows as
// they lie in memory. A transposed operand lies in memory as [k, m] or [n, k]. T is the type of the
// sums; A and B are T or, for products of bfloat16, Bfloat16.
template <class T, class A = T, class B = T>
struct GemmTask {
  std::int64_t m, n, k;
  const A* a;
  std::int64_t lda;
  bool a_transposed;
  const B* b;
  std::int64_t ldb;
  bool b_transposed;
  T* c;
  std::int64_t ldc;
  bool accumulate;
};

// What a caller needs to know to split work and to bring memory.
struct GemmTiling {
  std::int64_t rows;              // of C per register tile
  std::int64_t columns;           // of C per register tile
  std::int64_t workspace_values;  // elements of the packing buffer, whatever the shape
};

}  // namespace witan::cpu

// Every element of C is the sum over k in ascending order, in blocks of a fixed length: it depends
// neither on m, n nor on where the element lies in its tile. The CPU levels with fused multiply-add
// give the same bits. gemm_bf16 rounds the operands to bfloat16 (nearest even) and multiplies them
// in float32: what a bfloat16 unit computes, on a CPU without one. Its workspace is that of float.
// Operands that lie in memory as bfloat16 give the same bits as floats that round to them.
#define WITAN_GEMM_KERNELS                          \
  template <class T>                                \
  void gemm_tiling(GemmTiling* tiling);             \
  template <class T>                                \
  void gemm(const GemmTask<T>& task, T* workspace); \
  template <class A, class B>                       \
  void gemm_bf16(const GemmTask<float, A, B>& task, float* workspace);

WITAN_DECLARE_ISA(WITAN_GEMM_KERNELS)
