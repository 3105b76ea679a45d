// f(x) between the projections of a feed-forward network, over whole rows; core/ops/activation.cc
// splits rows over threads. A null row_weight means 1 (and no drow_weight).
#pragma once

#include <cstdint>

#include "core/ops/activation.h"
#include "core/ops/cpu/isa.h"

#define WITAN_ACTIVATION_KERNELS                                                                   \
  template <class T>                                                                               \
  void activation(ops::Activation kind, const T* in, const T* row_weight, T* h, std::int64_t rows, \
                  std::int64_t ff, const ops::SwigluOptions& options);                             \
  template <class T>                                                                               \
  void activation_backward(ops::Activation kind, const T* in, const T* row_weight, const T* dh,    \
                           T* din, T* drow_weight, std::int64_t rows, std::int64_t ff,             \
                           const ops::SwigluOptions& options);

WITAN_DECLARE_ISA(WITAN_ACTIVATION_KERNELS)
