// The element-wise loop of core/ops/adamw.cc.
#pragma once

#include <cstdint>

#include "core/ops/adamw_factors.h"
#include "core/ops/cpu/isa.h"

#define WITAN_ADAMW_KERNELS                                                      \
  template <class T>                                                             \
  void adamw(const ops::AdamWFactors<T>& factors, T* w, const T* dw, T* m, T* v, \
             std::int64_t count);

WITAN_DECLARE_ISA(WITAN_ADAMW_KERNELS)
