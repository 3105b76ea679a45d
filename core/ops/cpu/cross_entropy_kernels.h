// Cross-entropy and its gradient over a range of rows. A null dlogits asks for the loss only.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"

#define WITAN_CROSS_ENTROPY_KERNELS                                                     \
  template <class T>                                                                    \
  void cross_entropy(const T* logits, const std::int32_t* targets, T* loss, T* dlogits, \
                     std::int64_t rows, std::int64_t vocab);

WITAN_DECLARE_ISA(WITAN_CROSS_ENTROPY_KERNELS)
