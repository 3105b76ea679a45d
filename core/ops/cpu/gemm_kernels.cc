#include "core/ops/cpu/gemm_kernels.h"

namespace witan::cpu::WITAN_ISA {

template <class T>
void gemm_tiling(GemmTiling* tiling) {
  *tiling = {1, 16, 16};
}

template <class T>
void gemm(const GemmTask<T>& task, T* workspace) {
  (void)workspace;
  for (std::int64_t i = 0; i < task.m; ++i) {
    for (std::int64_t j = 0; j < task.n; ++j) {
      T sum = 0;
      for (std::int64_t p = 0; p < task.k; ++p) {
        const T a = task.a_transposed ? task.a[p * task.lda + i] : task.a[i * task.lda + p];
        const T b = task.b_transposed ? task.b[j * task.ldb + p] : task.b[p * task.ldb + j];
        sum += a * b;
      }
      T& c = task.c[i * task.ldc + j];
      c = task.accumulate ? c + sum : sum;
    }
  }
}

template void gemm_tiling<float>(GemmTiling*);
template void gemm_tiling<double>(GemmTiling*);
template void gemm(const GemmTask<float>&, float*);
template void gemm(const GemmTask<double>&, double*);

}  // namespace witan::cpu::WITAN_ISA
