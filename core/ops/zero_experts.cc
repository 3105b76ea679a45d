#include "core/ops/zero_experts.h"

#include <cmath>
#include <vector>

#include "core/ops/cuda/zero_experts.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/parallel.h"
#include "core/ops/topk.h"

namespace witan::ops {
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

// What the gradients of constant experts' parameters take from one choice.
struct ConstantGradient {
  std::int64_t expert = -1;  // among the constant ones; -1: the choice is of another kind
  double dlogit = 0.0;       // of the first row of W x; that of the second is its negative
  double share_of_v = 0.0;   // times the routing weight
};

// One token after the other, on the host.
template <class T>
struct Tokens {
  const ZeroExperts& experts;
  const T* mix;
  const T* vector;
  std::int64_t top_k;
  std::int64_t d;

  // a of (a, b) = softmax(W x); b = 1 - a.
  double share_of_x(std::int64_t expert, const T* x) const {
    const T* w = mix + 2 * expert * d;
    return 1.0 / (1.0 + std::exp(dot(w + d, x, d) - dot(w, x, d)));
  }

  void forward(const std::int32_t* chosen, const T* weights, const T* x, T* y) const {
    for (std::int64_t j = 0; j < top_k; ++j) {
      const std::int64_t expert = chosen[j] - experts.first - experts.zero;
      if (expert < 0) continue;  // none, one that computes, or zero
      const auto weight = static_cast<double>(weights[j]);
      if (expert < experts.copy) {
        add(weight, x, y, d);
        continue;
      }
      const double a = share_of_x(expert - experts.copy, x);
      add(weight * a, x, y, d);
      add(weight * (1.0 - a), vector + (expert - experts.copy) * d, y, d);
    }
  }

  void backward(const std::int32_t* chosen, const T* weights, const T* x, const T* dy, T* dx,
                T* dweights, ConstantGradient* gradients) const {
    for (std::int64_t j = 0; j < top_k; ++j) {
      if (chosen[j] < experts.first) continue;  // none, or one that computes
      dweights[j] = T{0};
      const std::int64_t expert = chosen[j] - experts.first - experts.zero;
      if (expert < 0) continue;
      const auto weight = static_cast<double>(weights[j]);
      const double along_x = dot(dy, x, d);
      if (expert < experts.copy) {
        dweights[j] = static_cast<T>(along_x);
        add(weight, dy, dx, d);
        continue;
      }
      const std::int64_t constant = expert - experts.copy;
      const double along_v = dot(dy, vector + constant * d, d);
      const double a = share_of_x(constant, x);
      const double b = 1.0 - a;
      dweights[j] = static_cast<T>(a * along_x + b * along_v);
      const double dlogit = weight * a * b * (along_x - along_v);
      gradients[j] = {constant, dlogit, weight * b};
      const T* w = mix + 2 * constant * d;
      add(weight * a, dy, dx, d);
      add(dlogit, w, dx, d);
      add(-dlogit, w + d, dx, d);
    }
  }
};

template <class T>
T* data_or_none(const TensorView& x) {
  return x.empty() ? nullptr : x.as<T>();
}

template <class T>
Tokens<T> tokens_of(const ZeroExperts& experts, const ConstantExperts& params,
                    const TensorView& indices, const TensorView& x) {
  return {experts, data_or_none<T>(params.mix), data_or_none<T>(params.vector), indices.cols(),
          x.cols()};
}

// Token after token, so that the order of the sums is fixed; threads share the columns.
template <class T>
void parameter_gradients(const std::vector<ConstantGradient>& choices, std::int64_t top_k,
                         const TensorView& x, const TensorView& dy,
                         const ConstantExperts& gradients) {
  const std::int64_t d = x.cols();
  parallel_ranges(d, kGrainColumns, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t n = end - begin;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const ConstantGradient& choice = choices[i];
      if (choice.expert < 0) continue;
      const std::int64_t at = static_cast<std::int64_t>(i) / top_k * d + begin;
      T* dw = gradients.mix.as<T>() + 2 * choice.expert * d + begin;
      add(choice.dlogit, x.as<T>() + at, dw, n);
      add(-choice.dlogit, x.as<T>() + at, dw + d, n);
      add(choice.share_of_v, dy.as<T>() + at, gradients.vector.as<T>() + choice.expert * d + begin,
          n);
    }
  });
}

void check(const Context& ctx, const char* op, const ZeroExperts& experts,
           const ConstantExperts& params, const TensorView& indices, const TensorView& weights,
           const TensorView& x) {
  check_float(op, "x", x, 2);
  check_operand(ctx, op, "x", x, x.dtype, x.shape);
  check_operand(ctx, op, "indices", indices, DType::kInt32, {x.rows(), indices.cols()});
  check_operand(ctx, op, "weights", weights, x.dtype, indices.shape);
  if (experts.constant == 0) return;
  check_operand(ctx, op, "mix", params.mix, x.dtype, {2 * experts.constant, x.cols()});
  check_operand(ctx, op, "vector", params.vector, x.dtype, {experts.constant, x.cols()});
}

std::int64_t all(const ZeroExperts& experts) {
  return experts.first + experts.zero + experts.copy + experts.constant;
}

}  // namespace

void zero_experts(const Context& ctx, const ZeroExperts& experts, const ConstantExperts& params,
                  const TensorView& indices, const TensorView& weights, const TensorView& x,
                  const TensorView& y) {
  const char* op = "zero_experts";
  check(ctx, op, experts, params, indices, weights, x);
  check_operand(ctx, op, "y", y, x.dtype, x.shape);
  if (ctx.device.is_cuda()) return cuda::zero_experts(ctx, experts, params, indices, weights, x, y);
  check_indices(op, "indices", indices, kNoChoice, all(experts));
  dispatch_float(x.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    const Tokens<T> tokens = tokens_of<T>(experts, params, indices, x);
    parallel_ranges(x.rows(), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        tokens.forward(indices.as<std::int32_t>() + t * tokens.top_k,
                       weights.as<T>() + t * tokens.top_k, x.as<T>() + t * tokens.d,
                       y.as<T>() + t * tokens.d);
      }
    });
  });
}

void zero_experts_backward(const Context& ctx, const ZeroExperts& experts,
                           const ConstantExperts& params, const TensorView& indices,
                           const TensorView& weights, const TensorView& x, const TensorView& dy,
                           const TensorView& dx, const TensorView& dweights,
                           const ConstantExperts& gradients) {
  const char* op = "zero_experts_backward";
  check(ctx, op, experts, params, indices, weights, x);
  check_operand(ctx, op, "dy", dy, x.dtype, x.shape);
  check_operand(ctx, op, "dx", dx, x.dtype, x.shape);
  check_operand(ctx, op, "dweights", dweights, x.dtype, indices.shape);
  if (experts.constant > 0) {
    check_operand(ctx, op, "dmix", gradients.mix, x.dtype, params.mix.shape);
    check_operand(ctx, op, "dvector", gradients.vector, x.dtype, params.vector.shape);
  }
  if (ctx.device.is_cuda()) {
    return cuda::zero_experts_backward(ctx, experts, params, indices, weights, x, dy, dx, dweights,
                                       gradients);
  }
  check_indices(op, "indices", indices, kNoChoice, all(experts));
  std::vector<ConstantGradient> choices;
  if (experts.constant > 0) choices.resize(static_cast<std::size_t>(indices.size()));
  dispatch_float(x.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    const Tokens<T> tokens = tokens_of<T>(experts, params, indices, x);
    const auto at = [&](const TensorView& rows, std::int64_t t) {
      return rows.as<T>() + t * rows.cols();
    };
    parallel_ranges(x.rows(), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        tokens.backward(indices.as<std::int32_t>() + t * tokens.top_k, at(weights, t), at(x, t),
                        at(dy, t), at(dx, t), at(dweights, t), choices.data() + t * tokens.top_k);
      }
    });
    if (experts.constant > 0) parameter_gradients<T>(choices, tokens.top_k, x, dy, gradients);
  });
}

void keep_choices_below(const Context& ctx, std::int64_t experts, const TensorView& indices,
                        const TensorView& kept) {
  check_operand(ctx, "keep_choices_below", "indices", indices, DType::kInt32, indices.shape);
  check_operand(ctx, "keep_choices_below", "kept", kept, DType::kInt32, indices.shape);
  if (ctx.device.is_cuda()) return cuda::keep_choices_below(ctx, experts, indices, kept);
  const auto* from = indices.as<std::int32_t>();
  auto* to = kept.as<std::int32_t>();
  for (std::int64_t i = 0; i < indices.size(); ++i) to[i] = from[i] < experts ? from[i] : kNoChoice;
}

}  // namespace witan::ops
