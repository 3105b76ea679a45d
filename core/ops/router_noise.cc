#include "core/ops/router_noise.h"

#include <algorithm>
#include <cmath>

#include "core/base/box_muller.h"
#include "core/ops/cuda/router_noise.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 1024;  // elements per thread below which threads do not pay

template <class T>
T softplus(T x) {
  return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)));
}
// d softplus / dx, from softplus(x).
template <class T>
T slope(T softplus_of_x) {
  return -std::expm1(-softplus_of_x);
}

// The numbers first, first + 1, ... of a sequence of normals.
class NormalRow {
 public:
  NormalRow(const RandomAddress& random, std::uint64_t first) : random_(random), index_(first) {
    if (first % 2 != 0) pair_ = normal_pair(random_, first / 2);
  }
  double next() {
    if (index_ % 2 == 0) pair_ = normal_pair(random_, index_ / 2);
    return index_++ % 2 == 0 ? pair_.even : pair_.odd;
  }

 private:
  const RandomAddress& random_;
  std::uint64_t index_;
  NormalPair pair_{};
};

}  // namespace

void add_router_noise(const Context& ctx, NoiseScale kind, const RandomAddress& random,
                      std::uint64_t first, const NoisyLogits& logits) {
  const char* op = "add_router_noise";
  const bool learned = kind == NoiseScale::kLearned;
  const TensorView& z = logits.z;
  check_float(op, "z", z, 2);
  check_operand(ctx, op, "z", z, z.dtype, z.shape);
  check_operand(ctx, op, "clean_z", logits.clean_z, z.dtype, z.shape);
  check_operand(ctx, op, "scale", logits.scale, z.dtype, z.shape);
  if (learned) check_operand(ctx, op, "noise", logits.noise, z.dtype, z.shape);
  if (ctx.device.is_cuda()) return cuda::add_router_noise(ctx, kind, random, first, logits);
  const std::int64_t experts = z.cols();
  dispatch_float(z.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    T* logit = z.as<T>();
    T* clean = logits.clean_z.as<T>();
    T* scale = logits.scale.as<T>();
    T* noise = learned ? logits.noise.as<T>() : nullptr;
    const T fixed = T{1} / static_cast<T>(experts);
    parallel_for(z.rows(), [&](std::int64_t t) {
      NormalRow draws(random, first + static_cast<std::uint64_t>(t * experts));
      for (std::int64_t i = t * experts; i < (t + 1) * experts; ++i) {
        const auto draw = static_cast<T>(draws.next());
        scale[i] = learned ? softplus(scale[i]) : fixed;
        if (noise != nullptr) noise[i] = draw;
        clean[i] = logit[i];
        logit[i] += scale[i] * draw;
      }
    });
  });
}

void router_noise_backward(const Context& ctx, const TensorView& dz, const TensorView& dscale,
                           const TensorView& noise, const TensorView& scale, const TensorView& dy) {
  const char* op = "router_noise_backward";
  check_operand(ctx, op, "dz", dz, dz.dtype, dz.shape);
  if (!dscale.empty()) check_operand(ctx, op, "dscale", dscale, dz.dtype, dz.shape);
  check_operand(ctx, op, "noise", noise, dz.dtype, dz.shape);
  check_operand(ctx, op, "scale", scale, dz.dtype, dz.shape);
  check_operand(ctx, op, "dy", dy, dz.dtype, dz.shape);
  if (ctx.device.is_cuda()) return cuda::router_noise_backward(ctx, dz, dscale, noise, scale, dy);
  dispatch_float(dz.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    const T* gradient = dz.as<T>();
    const T* draw = noise.as<T>();
    const T* size = scale.as<T>();
    const T* more = dscale.empty() ? nullptr : dscale.as<T>();
    T* out = dy.as<T>();
    parallel_ranges(dz.size(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T dsize = gradient[i] * draw[i] + (more == nullptr ? T{0} : more[i]);
        out[i] = dsize * slope(size[i]);
      }
    });
  });
}

}  // namespace witan::ops
