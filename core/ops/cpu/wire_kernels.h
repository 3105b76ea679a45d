// Rows on their way between ranks: bfloat16 to and from float, and the sum of rows that lie in
// several places.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"

#define WITAN_WIRE_KERNELS                                                                     \
  /* to[r] = the nearest bfloat16 (ties to even) of x[index[r]], rows of d; rows of `to` begin \
     every `pitch`. Without index: of x[r]. */                                                 \
  void narrow_rows(const float* x, const std::int32_t* index, std::uint16_t* to,               \
                   std::int64_t rows, std::int64_t d, std::int64_t pitch);                     \
  /* y[r] = from[r] */                                                                         \
  void widen_rows(const std::uint16_t* from, float* y, std::int64_t rows, std::int64_t d,      \
                  std::int64_t pitch);                                                         \
  /* y[t] = row[index[begin[t]]] + row[index[begin[t] + 1]] + ..., in this order. */           \
  template <class T>                                                                           \
  void sum_rows(const void* const* row, const std::int32_t* begin, const std::int32_t* index,  \
                T* y, std::int64_t tokens, std::int64_t d);                                    \
  /* The same; row r is bfloat16 where narrow[r] is not 0. */                                  \
  void sum_mixed_rows(const void* const* row, const std::uint8_t* narrow,                      \
                      const std::int32_t* begin, const std::int32_t* index, float* y,          \
                      std::int64_t tokens, std::int64_t d);

WITAN_DECLARE_ISA(WITAN_WIRE_KERNELS)
