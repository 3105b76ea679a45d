// Rotary embedding of a range of tokens, with an optional RMSNorm of every query and key head.
// Row r of `table` holds the head_dim / 2 cosines of a position, then its sines; token t uses row
// table_rows[t]. Null q_norm and k_norm mean no norm.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"
#include "core/ops/rope.h"

#define WITAN_ROPE_KERNELS                                                                     \
  template <class T>                                                                           \
  void rope(const ops::RopeShape& shape, const T* qkv, const T* table,                         \
            const std::int32_t* table_rows, const T* q_norm, const T* k_norm, T* out, T* rstd, \
            std::int64_t tokens);                                                              \
  /* dnorm_partial is overwritten: these tokens' share of dq_norm, then dk_norm. */            \
  template <class T>                                                                           \
  void rope_backward(const ops::RopeShape& shape, const T* dout, const T* table,               \
                     const std::int32_t* table_rows, const T* qkv, const T* q_norm,            \
                     const T* k_norm, const T* rstd, T* dqkv, T* dnorm_partial,                \
                     std::int64_t tokens);

WITAN_DECLARE_ISA(WITAN_ROPE_KERNELS)
