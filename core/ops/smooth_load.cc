#include "core/ops/smooth_load.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/smooth_load.h"
#include "core/ops/dispatch.h"

namespace witan::ops {
namespace {

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double normal_density(double x) {
  return std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
}
template <class T>
constexpr T kMasked = -std::numeric_limits<T>::infinity();

void check(const Context& ctx, const char* op, const NoisyChoice& choice, const NoisyLogits& logits,
           const TensorView& sums) {
  const TensorView& z = logits.z;
  check_float(op, "z", z, 2);
  check_operand(ctx, op, "z", z, z.dtype, z.shape);
  check_operand(ctx, op, "clean_z", logits.clean_z, z.dtype, z.shape);
  check_operand(ctx, op, "scale", logits.scale, z.dtype, z.shape);
  check_operand(ctx, op, "sums", sums, DType::kFloat64, {z.cols()});
  WITAN_CHECK(choice.top_k >= 1 && choice.top_k <= z.cols(), op, ": expected top_k in 1 .. ",
              z.cols(), " (experts), found ", choice.top_k);
}

// visit(i, expert, index of the threshold's noisy logit, x, scale) for every logit i;
// always(expert) where P is 1.
template <class T, class Visit, class Always>
void each_probability(const NoisyChoice& choice, const NoisyLogits& logits, const Visit& visit,
                      const Always& always) {
  const std::int64_t experts = logits.z.cols();
  const std::int64_t k = choice.top_k;
  const bool learned = choice.kind == NoiseScale::kLearned;
  const T* noisy = logits.z.as<T>();
  const T* clean = logits.clean_z.as<T>();
  const T* scale = logits.scale.as<T>();
  auto* order = cpu::scratch_of<std::int64_t>(experts);
  for (std::int64_t t = 0; t < logits.z.rows(); ++t) {
    const std::int64_t first = t * experts;
    for (std::int64_t e = 0; e < experts; ++e) order[e] = first + e;
    std::sort(order, order + experts, [&](std::int64_t a, std::int64_t b) {
      return noisy[a] != noisy[b] ? noisy[a] > noisy[b] : a < b;
    });
    std::int64_t allowed = experts;
    while (allowed > k && noisy[order[allowed - 1]] == kMasked<T>) --allowed;
    for (std::int64_t place = 0; place < allowed; ++place) {
      const std::int64_t i = order[place];
      // Without itself, one of the first k looks at the next one.
      const std::int64_t other = learned && place < k ? k : k - 1;
      if (other >= allowed) {  // all are chosen whatever the noise
        always(i - first);
        continue;
      }
      const std::int64_t threshold = order[other];
      const auto size = static_cast<double>(scale[i]);
      const double x =
          (static_cast<double>(clean[i]) - static_cast<double>(noisy[threshold])) / size;
      visit(i, i - first, threshold, x, size);
    }
  }
}

}  // namespace

void smooth_load(const Context& ctx, const NoisyChoice& choice, const NoisyLogits& logits,
                 const TensorView& sums) {
  check(ctx, "smooth_load", choice, logits, sums);
  if (ctx.device.is_cuda()) return cuda::smooth_load(ctx, choice, logits, sums);
  auto* load = sums.as<double>();
  std::fill_n(load, sums.size(), 0.0);
  dispatch_float(logits.z.dtype, "smooth_load", [&](auto zero) {
    each_probability<decltype(zero)>(
        choice, logits,
        [&](std::int64_t, std::int64_t e, std::int64_t, double x, double) {
          load[e] += normal_cdf(x);
        },
        [&](std::int64_t e) { load[e] += 1.0; });
  });
}

void smooth_load_backward(const Context& ctx, const NoisyChoice& choice, double factor,
                          const NoisyLogits& logits, const TensorView& gradient,
                          const TensorView& dz, const TensorView& dclean_z,
                          const TensorView& dscale) {
  const char* op = "smooth_load_backward";
  check(ctx, op, choice, logits, gradient);
  const TensorView& z = logits.z;
  check_operand(ctx, op, "dz", dz, z.dtype, z.shape);
  check_operand(ctx, op, "dclean_z", dclean_z, z.dtype, z.shape);
  check_operand(ctx, op, "dscale", dscale, z.dtype, z.shape);
  if (ctx.device.is_cuda()) {
    return cuda::smooth_load_backward(ctx, choice, factor, logits, gradient, dz, dclean_z, dscale);
  }
  const auto* of_expert = gradient.as<double>();
  dispatch_float(z.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    T* dnoisy = dz.as<T>();
    T* dclean = dclean_z.as<T>();
    T* dsize = dscale.as<T>();
    each_probability<T>(
        choice, logits,
        [&](std::int64_t i, std::int64_t e, std::int64_t threshold, double x, double size) {
          const double dx = factor * of_expert[e] * normal_density(x);
          dclean[i] += static_cast<T>(dx / size);
          dnoisy[threshold] -= static_cast<T>(dx / size);
          dsize[i] -= static_cast<T>(dx * x / size);
        },
        [](std::int64_t) {});
  });
}

}  // namespace witan::ops
