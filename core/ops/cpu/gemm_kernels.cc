#include "core/ops/cpu/gemm_kernels.h"

#include "core/ops/cpu/gemm_blocked.h"

namespace witan::cpu::WITAN_ISA {

template <class T>
void gemm_tiling(GemmTiling* tiling) {
  *tiling = blocked_tiling<Plain<T>>();
}

template <class T>
void gemm(const GemmTask<T>& task, T* workspace) {
  blocked_gemm<Plain<T>>(task, workspace);
}

template <class A, class B>
void gemm_bf16(const GemmTask<float, A, B>& task, float* workspace) {
  blocked_gemm<RoundedToBfloat16>(task, workspace);
}

template void gemm_tiling<float>(GemmTiling*);
template void gemm_tiling<double>(GemmTiling*);
template void gemm(const GemmTask<float>&, float*);
template void gemm(const GemmTask<double>&, double*);
template void gemm_bf16(const GemmTask<float, float, float>&, float*);
template void gemm_bf16(const GemmTask<float, float, Bfloat16>&, float*);
template void gemm_bf16(const GemmTask<float, Bfloat16, float>&, float*);
template void gemm_bf16(const GemmTask<float, Bfloat16, Bfloat16>&, float*);

}  // namespace witan::cpu::WITAN_ISA
