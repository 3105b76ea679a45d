#include "core/ops/cpu/gemm_bf16_kernels.h"
#include "core/ops/cpu/gemm_blocked.h"

namespace witan::cpu::WITAN_ISA {

void gemm_bf16(const GemmTask<float>& task, float* workspace) {
  blocked_gemm<Bfloat16Pairs>(task, workspace);
}

}  // namespace witan::cpu::WITAN_ISA
