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
