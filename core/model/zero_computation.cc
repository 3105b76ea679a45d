#include "core/model/zero_computation.h"

#include <cmath>
#include <string>

#include "core/ops/parallel.h"
#include "core/ops/topk.h"
#include "core/tensor/twin.h"

namespace witan {
namespace {

// Per thread, below which threads do not pay.
constexpr std::int64_t kGrainRows = 64;
constexpr std::int64_t kGrainColumns = 64;

template <class T>
double dot(const T* a, const T* b, std::int64_t n) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// y += factor * x
template <class T>
void add(double factor, const T* x, T* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += static_cast<T>(factor) * x[i];
}

}  // namespace

ZeroComputation::ZeroComputation(const configs::MoeConfig& moe, const ParamStore& params, int layer)
    : experts_(moe.experts()),
      zero_(moe.zero_computation().zero()),
      copy_(moe.zero_computation().copy()),
      constant_(moe.zero_computation().constant()) {
  if (constant_ == 0) return;
  const std::string prefix = "layers." + std::to_string(layer) + ".moe.constant.";
  params_.mix = params.value(prefix + "mix");
  params_.vector = params.value(prefix + "vector");
  if (!params.has_gradients()) return;
  params_.dmix = params.grad(prefix + "mix");
  params_.dvector = params.grad(prefix + "vector");
}

void ZeroComputation::travelling(const TensorView& indices, const TensorView& travel) const {
  const auto* from = indices.as<std::int32_t>();
  auto* to = travel.as<std::int32_t>();
  for (std::int64_t i = 0; i < indices.size(); ++i) {
    to[i] = from[i] < experts_ ? from[i] : ops::kNoChoice;
  }
}

template <class T>
double ZeroComputation::share_of_x(std::int64_t expert, const T* x, std::int64_t d) const {
  const T* w = here_.mix.as<T>() + 2 * expert * d;
  return 1.0 / (1.0 + std::exp(dot(w + d, x, d) - dot(w, x, d)));
}

template <class T>
void ZeroComputation::token_forward(const std::int32_t* chosen, const T* weights,
                                    std::int64_t top_k, const T* x, T* y, std::int64_t d) const {
  for (std::int64_t j = 0; j < top_k; ++j) {
    const std::int64_t expert = chosen[j] - experts_ - zero_;
    if (expert < 0) continue;  // none, one that computes, or zero
    const auto weight = static_cast<double>(weights[j]);
    if (expert < copy_) {
      add(weight, x, y, d);
      continue;
    }
    const double a = share_of_x(expert - copy_, x, d);
    add(weight * a, x, y, d);
    add(weight * (1.0 - a), here_.vector.as<T>() + (expert - copy_) * d, y, d);
  }
}

void ZeroComputation::forward(const Context& ctx, const TensorView& indices,
                              const TensorView& weights, const TensorView& device_x,
                              const TensorView& device_y, Arena& host_scratch) {
  ArenaScope scope(host_scratch);
  const auto on_host = [&](const TensorView& tensor) {
    return copy_in(ctx, host_scratch, tensor, "zero-computation experts");
  };
  here_ = {on_host(params_.mix), on_host(params_.vector), {}, {}};
  const TensorView x = on_host(device_x);
  const TensorView y = on_host(device_y);
  const std::int64_t top_k = indices.cols();
  const std::int64_t d = x.cols();
  dispatch_float(x.dtype, "zero-computation experts", [&](auto zero) {
    using T = decltype(zero);
    ops::parallel_ranges(x.rows(), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        token_forward(indices.as<std::int32_t>() + t * top_k, weights.as<T>() + t * top_k, top_k,
                      x.as<T>() + t * d, y.as<T>() + t * d, d);
      }
    });
  });
  bring(ctx, y, device_y);
}

template <class T>
void ZeroComputation::token_backward(const std::int32_t* chosen, const T* weights,
                                     std::int64_t top_k, const T* x, const T* dy, T* dx,
                                     T* dweights, ConstantGradient* gradients,
                                     std::int64_t d) const {
  for (std::int64_t j = 0; j < top_k; ++j) {
    gradients[j] = {};
    if (chosen[j] < experts_) continue;  // none, or one that computes
    dweights[j] = T{0};
    const std::int64_t expert = chosen[j] - experts_ - zero_;
    if (expert < 0) continue;
    const auto weight = static_cast<double>(weights[j]);
    const double along_x = dot(dy, x, d);
    if (expert < copy_) {
      dweights[j] = static_cast<T>(along_x);
      add(weight, dy, dx, d);
      continue;
    }
    const std::int64_t constant = expert - copy_;
    const double along_v = dot(dy, here_.vector.as<T>() + constant * d, d);
    const double a = share_of_x(constant, x, d);
    const double b = 1.0 - a;
    dweights[j] = static_cast<T>(a * along_x + b * along_v);
    const double dlogit = weight * a * b * (along_x - along_v);
    gradients[j] = {constant, dlogit, weight * b};
    const T* w = here_.mix.as<T>() + 2 * constant * d;
    add(weight * a, dy, dx, d);
    add(dlogit, w, dx, d);
    add(-dlogit, w + d, dx, d);
  }
}

// Token after token, so that the order of the sums is fixed; threads share the columns.
template <class T>
void ZeroComputation::parameter_gradients(const TensorView& x, const TensorView& dy,
                                          std::int64_t top_k) const {
  const std::int64_t d = x.cols();
  ops::parallel_ranges(d, kGrainColumns, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t n = end - begin;
    for (std::size_t i = 0; i < gradients_.size(); ++i) {
      const ConstantGradient& gradient = gradients_[i];
      if (gradient.expert < 0) continue;
      const std::int64_t at = static_cast<std::int64_t>(i) / top_k * d + begin;
      T* dw = here_.dmix.as<T>() + 2 * gradient.expert * d + begin;
      add(gradient.dlogit, x.as<T>() + at, dw, n);
      add(-gradient.dlogit, x.as<T>() + at, dw + d, n);
      add(gradient.share_of_v, dy.as<T>() + at, here_.dvector.as<T>() + gradient.expert * d + begin,
          n);
    }
  });
}

void ZeroComputation::backward(const Context& ctx, const TensorView& indices,
                               const TensorView& weights, const TensorView& device_x,
                               const TensorView& device_dy, const TensorView& device_dx,
                               const TensorView& dweights, Arena& host_scratch) {
  ArenaScope scope(host_scratch);
  const auto on_host = [&](const TensorView& tensor) {
    return copy_in(ctx, host_scratch, tensor, "zero-computation experts backward");
  };
  here_ = {on_host(params_.mix), on_host(params_.vector), on_host(params_.dmix),
           on_host(params_.dvector)};
  const TensorView x = on_host(device_x);
  const TensorView dy = on_host(device_dy);
  const TensorView dx = on_host(device_dx);
  const std::int64_t top_k = indices.cols();
  const std::int64_t d = x.cols();
  gradients_.resize(static_cast<std::size_t>(indices.size()));
  dispatch_float(x.dtype, "zero-computation experts", [&](auto zero) {
    using T = decltype(zero);
    ops::parallel_ranges(x.rows(), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        token_backward(indices.as<std::int32_t>() + t * top_k, weights.as<T>() + t * top_k, top_k,
                       x.as<T>() + t * d, dy.as<T>() + t * d, dx.as<T>() + t * d,
                       dweights.as<T>() + t * top_k, gradients_.data() + t * top_k, d);
      }
    });
    if (constant_ > 0) parameter_gradients<T>(x, dy, top_k);
  });
  bring(ctx, dx, device_dx);
  bring(ctx, here_.dmix, params_.dmix);
  bring(ctx, here_.dvector, params_.dvector);
}

}  // namespace witan
