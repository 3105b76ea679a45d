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

void gemm_bf16(const GemmTask<float>& task, float* workspace) {
  blocked_gemm<RoundedToBfloat16>(task, workspace);
}

template void gemm_tiling<float>(GemmTiling*);
template void gemm_tiling<double>(GemmTiling*);
template void gemm(const GemmTask<float>&, float*);
template void gemm(const GemmTask<double>&, double*);

}  // namespace witan::cpu::WITAN_ISA
