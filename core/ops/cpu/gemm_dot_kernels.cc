#include "core/ops/cpu/gemm_bf16_kernels.h"
#include "core/ops/cpu/gemm_blocked.h"

namespace witan::cpu::WITAN_ISA {

template <class A, class B>
void gemm_bf16(const GemmTask<float, A, B>& task, float* workspace) {
  blocked_gemm<Bfloat16Pairs>(task, workspace);
}

template void gemm_bf16(const GemmTask<float, float, float>&, float*);
template void gemm_bf16(const GemmTask<float, float, Bfloat16>&, float*);
template void gemm_bf16(const GemmTask<float, Bfloat16, float>&, float*);
template void gemm_bf16(const GemmTask<float, Bfloat16, Bfloat16>&, float*);

}  // namespace witan::cpu::WITAN_ISA
