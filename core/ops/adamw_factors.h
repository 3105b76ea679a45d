// The scalars of a step of AdamW as the kernels multiply them; rounded to T once, after they are
// combined.
#pragma once

#include <cmath>

#include "core/ops/adamw.h"

namespace witan::ops {

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

template <class T>
AdamWFactors<T> adamw_factors(const AdamWStep& step) {
  AdamWFactors<T> factors;
  factors.grad_scale = static_cast<T>(step.grad_scale);
  factors.keep_m = static_cast<T>(step.beta1);
  factors.take_m = static_cast<T>(1.0 - step.beta1);
  factors.keep_v = static_cast<T>(step.beta2);
  factors.take_v = static_cast<T>(1.0 - step.beta2);
  factors.keep_w = static_cast<T>(1.0 - step.lr * step.weight_decay);
  factors.step_size = static_cast<T>(step.lr / step.bias_correction1);
  factors.root_scale = static_cast<T>(1.0 / std::sqrt(step.bias_correction2));
  factors.eps = static_cast<T>(step.eps);
  return factors;
}

}  // namespace witan::ops
