// The AdamW update of one contiguous range of parameters (Loshchilov and Hutter 2019, algorithm 2;
// the same as torch.optim.AdamW: decay first, epsilon outside the bias-corrected root).
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

struct AdamWStep {
  double lr = 0.0;
  double beta1 = 0.0;
  double beta2 = 0.0;
  double eps = 0.0;
  double weight_decay = 0.0;
  double bias_correction1 = 1.0;  // 1 - beta1^t, with t = 1 in the first step
  double bias_correction2 = 1.0;  // 1 - beta2^t
  double grad_scale = 1.0;        // the gradient is grad_scale * dw
};

// In place on w, m and v, all [n] and of one type, float32 or float64; dw is only read:
//   g = grad_scale * dw
//   m = beta1 m + (1 - beta1) g
//   v = beta2 v + (1 - beta2) g^2
//   w = (1 - lr weight_decay) w - lr (m / bias_correction1) / (sqrt(v / bias_correction2) + eps)
void adamw(const Context& ctx, const AdamWStep& step, const TensorView& w, const TensorView& dw,
           const TensorView& m, const TensorView& v);

}  // namespace witan::ops
