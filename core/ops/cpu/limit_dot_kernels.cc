#include <immintrin.h>

#include "core/ops/cpu/limit_kernels.h"

namespace witan::cpu::WITAN_ISA {

void bf16_products(std::int64_t rounds, double* flops) {
  constexpr int kChains = 12;
  constexpr double kFlopsOfOne = 64.0;  // 16 sums of two products
  __m512 sums[kChains] = {};
  __m512 a = _mm512_set1_ps(1.0f);  // as pairs of bfloat16: 0 and 1
#pragma GCC unroll 16
  for (__m512& sum : sums) __asm__ volatile("" : "+v"(sum));
  __asm__ volatile("" : "+v"(a));
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)a);
  }
#pragma GCC unroll 16
  for (__m512& sum : sums) __asm__ volatile("" : : "v"(sum));
  *flops += kFlopsOfOne * kChains * static_cast<double>(rounds);
}

}  // namespace witan::cpu::WITAN_ISA
