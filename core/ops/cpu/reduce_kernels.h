// Sums over one contiguous block, in double.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"

#define WITAN_REDUCE_KERNELS                                      \
  template <class T>                                              \
  void block_sum(const T* x, std::int64_t count, double* result); \
  template <class T>                                              \
  void block_sum_of_squares(const T* x, std::int64_t count, double* result);

WITAN_DECLARE_ISA(WITAN_REDUCE_KERNELS)
