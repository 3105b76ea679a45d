#include "core/ops/adamw.h"

#include "core/ops/adamw_factors.h"
#include "core/ops/cpu/adamw_kernels.h"
#include "core/ops/cuda/adamw.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements per thread below which threads do not pay
constexpr std::int64_t kLine = 16;      // no two threads write one cache line

}  // namespace

void adamw(const Context& ctx, const AdamWStep& step, const TensorView& w, const TensorView& dw,
           const TensorView& m, const TensorView& v) {
  check_float("adamw", "w", w, 1);
  check_operand(ctx, "adamw", "w", w, w.dtype, w.shape);
  check_operand(ctx, "adamw", "dw", dw, w.dtype, w.shape);
  check_operand(ctx, "adamw", "m", m, w.dtype, w.shape);
  check_operand(ctx, "adamw", "v", v, w.dtype, w.shape);
  if (ctx.device.is_cuda()) return cuda::adamw(ctx, step, w, dw, m, v);
  dispatch_float(w.dtype, "adamw", [&](auto type) {
    using T = decltype(type);
    const AdamWFactors<T> factors = adamw_factors<T>(step);
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
