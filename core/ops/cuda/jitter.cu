// Input jitter: 8 bytes an element of float32, 12 where it adds; ten rounds of integer arithmetic
// for each.
#include "core/ops/cuda/jitter.h"

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {
namespace {

template <class T, int kWidth>
__global__ void jitter_kernel(RandomAddress random, std::uint64_t first, double size, const T* x,
                              std::int64_t n, bool add, T* y) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    Pack<T, kHere> pack = load_pack<kHere>(x + i);
    Pack<T, kHere> sum{};
    if (add) sum = load_pack<kHere>(y + i);
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) {
      const double u = random.uniform(first + static_cast<std::uint64_t>(i + j));
      pack.value[j] *= static_cast<T>(1.0 + size * (2.0 * u - 1.0));
      if (add) pack.value[j] += sum.value[j];
    }
    store_pack<kHere>(y + i, pack);
  });
}

}  // namespace

void jitter(const Context& ctx, const RandomAddress& random, std::uint64_t first, double size,
            const TensorView& x, const TensorView& y, JitterInto into) {
  if (x.size() == 0) return;
  dispatch_float(x.dtype, "jitter", [&](auto zero) {
    using T = decltype(zero);
    dispatch_width<T>(is_aligned(x.data) && is_aligned(y.data), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(jitter_kernel<T, kWidth>, flat_grid(x.size() / kWidth), dim3(kFlatThreads), 0,
             ctx.stream, random, first, size, x.as<T>(), x.size(), into == JitterInto::kAdd,
             y.as<T>());
    });
  });
}

}  // namespace witan::ops::cuda
