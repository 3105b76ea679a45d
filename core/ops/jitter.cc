#include "core/ops/jitter.h"

#include "core/ops/cuda/jitter.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 1024;  // elements per thread below which threads do not pay

}  // namespace

void jitter(const Context& ctx, const RandomAddress& random, std::uint64_t first, double size,
            const TensorView& x, const TensorView& y, JitterInto into) {
  check_operand(ctx, "jitter", "x", x, x.dtype, x.shape);
  check_operand(ctx, "jitter", "y", y, x.dtype, x.shape);
  if (ctx.device.is_cuda()) return cuda::jitter(ctx, random, first, size, x, y, into);
  dispatch_float(x.dtype, "jitter", [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.as<T>();
    T* to = y.as<T>();
    parallel_ranges(x.size(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double u = random.uniform(first + static_cast<std::uint64_t>(i));
        const T value = from[i] * static_cast<T>(1.0 + size * (2.0 * u - 1.0));
        to[i] = into == JitterInto::kAdd ? to[i] + value : value;
      }
    });
  });
}

}  // namespace witan::ops
