// RMSNorm and LayerNorm over rows. The backwards write the weight gradients of their rows into
// partial sums [d], which sum_partials adds up in order.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"

#define WITAN_NORM_KERNELS                                                                     \
  template <class T>                                                                           \
  void rmsnorm(const T* x, const T* w, double eps, T* y, T* rstd, std::int64_t rows,           \
               std::int64_t d);                                                                \
  template <class T>                                                                           \
  void rmsnorm_backward(const T* dy, const T* x, const T* w, const T* rstd, T* dx,             \
                        bool accumulate_dx, T* dw_partial, std::int64_t rows, std::int64_t d); \
  template <class T>                                                                           \
  void layernorm(const T* x, const T* w, const T* b, double eps, T* y, T* mean, T* rstd,       \
                 std::int64_t rows, std::int64_t d);                                           \
  template <class T>                                                                           \
  void layernorm_backward(const T* dy, const T* x, const T* w, const T* mean, const T* rstd,   \
                          T* dx, bool accumulate_dx, T* dw_partial, T* db_partial,             \
                          std::int64_t rows, std::int64_t d);                                  \
  /* sum[j] += over p ascending of partials[p * stride + j], in double. */                     \
  template <class T>                                                                           \
  void sum_partials(const T* partials, std::int64_t count, std::int64_t stride, T* sum,        \
                    std::int64_t columns);

WITAN_DECLARE_ISA(WITAN_NORM_KERNELS)
