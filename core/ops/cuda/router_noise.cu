// Noise of routers. A draw costs more than the memory it touches: ten rounds of integer arithmetic,
// a logarithm, a sine and a cosine in double for two logits.
#include "core/ops/cuda/router_noise.h"

#include <algorithm>
#include <initializer_list>

#include "core/base/box_muller.h"
#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/operand.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {
namespace {

template <class T>
__device__ T softplus(T x) {
  return (x > T{0} ? x : T{0}) + log1p(exp(x > T{0} ? -x : x));
}

// The numbers first, first + 1, ... of a sequence of normals; of more than one the first is even.
template <int kCount>
__device__ Pack<double, kCount> normals(const RandomAddress& random, std::uint64_t first) {
  Pack<double, kCount> draws;
  if constexpr (kCount == 1) {
    const NormalPair pair = normal_pair(random, first / 2);
    draws.value[0] = first % 2 == 0 ? pair.even : pair.odd;
  } else {
    WITAN_UNROLL
    for (int j = 0; j < kCount; j += 2) {
      const NormalPair pair = normal_pair(random, (first + static_cast<std::uint64_t>(j)) / 2);
      draws.value[j] = pair.even;
      draws.value[j + 1] = pair.odd;
    }
  }
  return draws;
}

// A null noise: the scale is `fixed`. 16 bytes an element of float32, 24 with a learned scale.
template <class T, int kWidth>
__global__ void router_noise_kernel(RandomAddress random, std::uint64_t first, T fixed,
                                    std::int64_t n, T* z, T* clean_z, T* scale, T* noise) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const Pack<T, kHere> clean = load_pack<kHere>(z + i);
    Pack<T, kHere> size;
    if (noise != nullptr) size = load_pack<kHere>(scale + i);
    const Pack<double, kHere> draws = normals<kHere>(random, first + static_cast<std::uint64_t>(i));
    Pack<T, kHere> draw;
    Pack<T, kHere> noisy;
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) {
      draw.value[j] = static_cast<T>(draws.value[j]);
      size.value[j] = noise == nullptr ? fixed : softplus(size.value[j]);
      noisy.value[j] = clean.value[j] + size.value[j] * draw.value[j];
    }
    store_pack<kHere>(clean_z + i, clean);
    store_pack<kHere>(z + i, noisy);
    store_pack<kHere>(scale + i, size);
    if (noise != nullptr) store_pack<kHere>(noise + i, draw);
  });
}

// dscale may be null: 16 bytes an element of float32, 20 with it
template <class T, int kWidth>
__global__ void router_noise_backward_kernel(const T* dz, const T* dscale, const T* noise,
                                             const T* scale, std::int64_t n, T* dy) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const Pack<T, kHere> gradient = load_pack<kHere>(dz + i);
    const Pack<T, kHere> draw = load_pack<kHere>(noise + i);
    const Pack<T, kHere> size = load_pack<kHere>(scale + i);
    Pack<T, kHere> out{};
    if (dscale != nullptr) out = load_pack<kHere>(dscale + i);
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) {
      out.value[j] += gradient.value[j] * draw.value[j];
      out.value[j] *= -expm1(-size.value[j]);  // the slope of softplus
    }
    store_pack<kHere>(dy + i, out);
  });
}

bool all_aligned(std::initializer_list<const TensorView*> tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [](const TensorView* x) { return is_aligned(x->data); });
}

}  // namespace

void add_router_noise(const Context& ctx, NoiseScale kind, const RandomAddress& random,
                      std::uint64_t first, const NoisyLogits& logits) {
  const TensorView& z = logits.z;
  if (z.size() == 0) return;
  const bool learned = kind == NoiseScale::kLearned;
  // Both numbers of a pair have to belong to one piece.
  const bool fits = first % 2 == 0 && all_aligned({&z, &logits.clean_z, &logits.scale}) &&
                    (!learned || is_aligned(logits.noise.data));
  dispatch_float(z.dtype, "add_router_noise", [&](auto zero) {
    using T = decltype(zero);
    dispatch_width<T>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(router_noise_kernel<T, kWidth>, flat_grid(z.size() / kWidth), dim3(kFlatThreads), 0,
             ctx.stream, random, first, T{1} / static_cast<T>(z.cols()), z.size(), z.as<T>(),
             logits.clean_z.as<T>(), logits.scale.as<T>(),
             learned ? logits.noise.as<T>() : static_cast<T*>(nullptr));
    });
  });
}

void router_noise_backward(const Context& ctx, const TensorView& dz, const TensorView& dscale,
                           const TensorView& noise, const TensorView& scale, const TensorView& dy) {
  if (dz.size() == 0) return;
  // No dscale is aligned, too.
  const bool fits = all_aligned({&dz, &dscale, &noise, &scale, &dy});
  dispatch_float(dz.dtype, "router_noise_backward", [&](auto zero) {
    using T = decltype(zero);
    dispatch_width<T>(fits, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch(router_noise_backward_kernel<T, kWidth>, flat_grid(dz.size() / kWidth),
             dim3(kFlatThreads), 0, ctx.stream, dz.as<T>(), data_or_null<T>(dscale), noise.as<T>(),
             scale.as<T>(), dz.size(), dy.as<T>());
    });
  });
}

}  // namespace witan::ops::cuda
