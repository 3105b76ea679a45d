// The element-wise loop of core/ops/adamw.cc.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"

namespace witan::cpu {

template <class T>
struct AdamWFactors {
  T grad_scale;
  T keep_m, take_m;  // beta1, 1 - beta1
  T keep_v, take_v;  // beta2, 1 - beta2
  T keep_w;          // 1 - lr weight_decay
  T step_size;       // lr / bias_correction1
  T root_scale;      // 1 / sqrt(bias_correction2)
  T eps;
};

}  // namespace witan::cpu

#define WITAN_ADAMW_KERNELS \
  template <class T>        \
  void adamw(const AdamWFactors<T>& factors, T* w, const T* dw, T* m, T* v, std::int64_t count);

WITAN_DECLARE_ISA(WITAN_ADAMW_KERNELS)
