// f(x) between the projections of a feed-forward network, over whole rows; core/ops/activation.cc
// splits rows over threads. A null row_weight means 1 (and no drow_weight). h and din are T or,
// rounded, Bfloat16.
#pragma once

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/activation.h"
#include "core/ops/cpu/isa.h"

#define WITAN_ACTIVATION_KERNELS                                                                   \
  template <class T, class H>                                                                      \
  void activation(ops::Activation kind, const T* in, const T* row_weight, H* h, std::int64_t rows, \
                  std::int64_t ff, const ops::SwigluOptions& options);                             \
  /* `row`: a row of din, for a din that lies where dh does; or null. */                           \
  template <class T, class D>                                                                      \
  void activation_backward(ops::Activation kind, const T* in, const T* row_weight, const T* dh,    \
                           D* din, T* drow_weight, std::int64_t rows, std::int64_t ff,             \
                           const ops::SwigluOptions& options, D* row);

WITAN_DECLARE_ISA(WITAN_ACTIVATION_KERNELS)
