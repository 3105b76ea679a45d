// Matrix products on bfloat16 units: float operands are rounded to bfloat16 (nearest even) while
// they are packed, the sums are float32. Like gemm_bf16 of gemm_kernels.h, which does the same
// without such a unit; each only on a CPU that has it (best_cpu_bf16()).
//
// Every element of C is the sum over k in ascending order of pairs of terms: it depends neither on
// m, n nor on where the element lies in its tile. The workspace is that of gemm_tiling<float> at
// the avx512 level, and begins on a cache line.
#pragma once

#include "core/ops/cpu/gemm_kernels.h"

namespace witan::cpu::avx512_bf16 {
template <class A, class B>
void gemm_bf16(const GemmTask<float, A, B>& task, float* workspace);  // vdpbf16ps
}
namespace witan::cpu::amx {
template <class A, class B>
void gemm_bf16(const GemmTask<float, A, B>& task, float* workspace);  // tdpbf16ps
}
