// Element-wise loops over contiguous ranges; core/ops/elementwise.cc splits them over threads.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"

#define WITAN_ELEMENTWISE_KERNELS                                                     \
  template <class T>                                                                  \
  void fill(T* x, std::int64_t count, T value);                                       \
  template <class From, class To>                                                     \
  void cast(const From* from, To* to, std::int64_t count);                            \
  template <class T>                                                                  \
  void add(const T* a, const T* b, T* y, std::int64_t count);                         \
  template <class T>                                                                  \
  void scale(T* x, std::int64_t count, T factor);                                     \
  /* x = the nearest bfloat16, ties to even. */                                       \
  void round_to_bfloat16(float* x, std::int64_t count);                               \
  template <class T>                                                                  \
  void add_bias(T* y, const T* bias, std::int64_t rows, std::int64_t n);              \
  /* dbias[j] += sum over rows of dy[row * stride + j], rows ascending, in double. */ \
  template <class T>                                                                  \
  void bias_backward(const T* dy, std::int64_t rows, std::int64_t stride, T* dbias,   \
                     std::int64_t columns);

WITAN_DECLARE_ISA(WITAN_ELEMENTWISE_KERNELS)
