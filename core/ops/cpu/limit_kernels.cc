#include "core/ops/cpu/limit_kernels.h"

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {

void multiply_adds(std::int64_t rounds, double* flops) {
  constexpr int kChains = 12;  // covers the latency of two units and leaves registers for operands
  VecFloat sums[kChains] = {};
  VecFloat a = broadcast(0.999f);
  VecFloat b = broadcast(1e-3f);
  // Chains that the compiler must not find equal, or constant.
#pragma GCC unroll 16
  for (VecFloat& sum : sums) __asm__ volatile("" : "+v"(sum));
  __asm__ volatile("" : "+v"(a), "+v"(b));
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (VecFloat& sum : sums) sum = sum * a + b;
  }
#pragma GCC unroll 16
  for (VecFloat& sum : sums) __asm__ volatile("" : : "v"(sum));
  *flops += 2.0 * kChains * kLanes<float> * static_cast<double>(rounds);
}

void read_floats(const float* x, std::int64_t count, std::int64_t times, float* sum) {
  constexpr int kChains = 8;
  constexpr std::int64_t kStep = kChains * kLanes<float>;
  VecFloat sums[kChains] = {};
  float rest = 0.0f;
  for (std::int64_t time = 0; time < times; ++time) {
    // Memory that the compiler must take for changed, or it would read it once.
    __asm__ volatile("" : "+r"(x) : : "memory");
    std::int64_t i = 0;
    for (; i + kStep <= count; i += kStep) {
#pragma GCC unroll 16
      for (int chain = 0; chain < kChains; ++chain)
        sums[chain] += load(x + i + chain * kLanes<float>);
    }
    for (; i < count; ++i) rest += x[i];
  }
  for (int chain = 1; chain < kChains; ++chain) sums[0] += sums[chain];
  *sum = rest + sum_lanes(sums[0]);
}

}  // namespace witan::cpu::WITAN_ISA
