#include "core/ops/cuda/adamw.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/adamw_factors.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {
namespace {

// One pass over all four buffers: 16 bytes read and 12 written an element of float32.
template <class T, int kWidth>
__global__ void adamw_kernel(AdamWFactors<T> f, const T* dw, std::int64_t n, T* w, T* m, T* v) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const Pack<T, kHere> gradient = load_pack<kHere>(dw + i);
    Pack<T, kHere> weight = load_pack<kHere>(w + i);
    Pack<T, kHere> mean = load_pack<kHere>(m + i);
    Pack<T, kHere> square = load_pack<kHere>(v + i);
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) {
      const T g = f.grad_scale * gradient.value[j];
      mean.value[j] = f.keep_m * mean.value[j] + f.take_m * g;
      square.value[j] = f.keep_v * square.value[j] + f.take_v * g * g;
      weight.value[j] =
          f.keep_w * weight.value[j] -
          f.step_size * mean.value[j] / (sqrt(square.value[j]) * f.root_scale + f.eps);
    }
    store_pack<kHere>(w + i, weight);
    store_pack<kHere>(m + i, mean);
    store_pack<kHere>(v + i, square);
  });
}

}  // namespace

void adamw(const Context& ctx, const AdamWStep& step, const TensorView& w, const TensorView& dw,
           const TensorView& m, const TensorView& v) {
  if (w.size() == 0) return;
  dispatch_float(w.dtype, "adamw", [&](auto zero) {
    using T = decltype(zero);
    const bool fits =
        is_aligned(w.data) && is_aligned(dw.data) && is_aligned(m.data) && is_aligned(v.data);
    dispatch_width<T>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(adamw_kernel<T, kWidth>, flat_grid(w.size() / kWidth), dim3(kFlatThreads), 0,
             ctx.stream, adamw_factors<T>(step), dw.as<T>(), w.size(), w.as<T>(), m.as<T>(),
             v.as<T>());
    });
  });
}

}  // namespace witan::ops::cuda
