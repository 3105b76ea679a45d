// Loops that only find out how fast a core is: multiply-adds on registers, reads of memory.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"

#define WITAN_LIMIT_KERNELS                                             \
  /* `rounds` of independent float32 multiply-adds; *flops is added. */ \
  void multiply_adds(std::int64_t rounds, double* flops);               \
  /* Reads x `times` times; *sum is the sum of what it read. */         \
  void read_floats(const float* x, std::int64_t count, std::int64_t times, float* sum);

WITAN_DECLARE_ISA(WITAN_LIMIT_KERNELS)

// Products of bfloat16 with float32 sums, on registers, with vdpbf16ps and on the AMX tiles: only
// on a CPU that has them (best_cpu_bf16()).
namespace witan::cpu::avx512_bf16 {
void bf16_products(std::int64_t rounds, double* flops);
}
namespace witan::cpu::amx {
void bf16_products(std::int64_t rounds, double* flops);
}
