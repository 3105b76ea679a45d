// Moving and adding rows by index: embedding, permute and unpermute_sum.
#pragma once

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

#define WITAN_ROW_KERNELS                                                                      \
  /* y[r] = first[index[r]], or second[index[r] - split] if that is not below split; rounded   \
     to nearest, ties to even, where Y is Bfloat16 and T is not. */                            \
  template <class T, class Y>                                                                  \
  void gather_rows_of_two(const T* first, std::int64_t split, const T* second,                 \
                          const std::int32_t* index, Y* y, std::int64_t rows, std::int64_t d); \
  /* y[r] = x[index[r]] */                                                                     \
  template <class T>                                                                           \
  void gather_rows(const T* x, const std::int32_t* index, T* y, std::int64_t rows,             \
                   std::int64_t d);                                                            \
  /* y[index[r]] = x[r] */                                                                     \
  template <class T>                                                                           \
  void scatter_rows(const T* x, const std::int32_t* index, T* y, std::int64_t rows,            \
                    std::int64_t d);                                                           \
  /* y[index[r]] += x[r], r ascending, of the first `columns` of rows of d elements. */        \
  template <class T>                                                                           \
  void scatter_add_rows(const T* x, const std::int32_t* index, T* y, std::int64_t rows,        \
                        std::int64_t d, std::int64_t columns);                                 \
  /* y[r] (+)= x[index[begin[r]]] + x[index[begin[r] + 1]] + ..., in this order. */            \
  template <class T>                                                                           \
  void gather_sum_rows(const T* x, const std::int32_t* begin, const std::int32_t* index, T* y, \
                       bool accumulate, std::int64_t rows, std::int64_t d);

WITAN_DECLARE_ISA(WITAN_ROW_KERNELS)
