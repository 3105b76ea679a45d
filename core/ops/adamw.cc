#include "core/ops/adamw.h"

#include <cmath>

#include "core/ops/cpu/adamw_kernels.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements per thread below which threads do not pay
constexpr std::int64_t kLine = 16;      // no two threads write one cache line

// The scalars of a step as the kernel multiplies them; rounded to T once, after they are combined.
template <class T>
cpu::AdamWFactors<T> factors_of(const AdamWStep& step) {
  cpu::AdamWFactors<T> factors;
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

}  // namespace

void adamw(const Context& ctx, const AdamWStep& step, const TensorView& w, const TensorView& dw,
           const TensorView& m, const TensorView& v) {
  check_float("adamw", "w", w, 1);
  check_operand(ctx, "adamw", "w", w, w.dtype, w.shape);
  check_operand(ctx, "adamw", "dw", dw, w.dtype, w.shape);
  check_operand(ctx, "adamw", "m", m, w.dtype, w.shape);
  check_operand(ctx, "adamw", "v", v, w.dtype, w.shape);
  require_cpu(ctx, "adamw");
  dispatch_float(w.dtype, "adamw", [&](auto type) {
    using T = decltype(type);
    const cpu::AdamWFactors<T> factors = factors_of<T>(step);
    parallel_ranges(
        w.size(), kGrain,
        [&](std::int64_t begin, std::int64_t end) {
          WITAN_CALL_ISA(adamw<T>, factors, w.as<T>() + begin, dw.as<T>() + begin,
                         m.as<T>() + begin, v.as<T>() + begin, end - begin);
        },
        kLine);
  });
}

}  // namespace witan::ops
