#include "core/ops/balance.h"

#include <algorithm>
#include <cmath>

#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/balance.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/topk.h"

namespace witan::ops {
namespace {

void check_loss(const Context& ctx, const char* op, const TensorView& loss) {
  check_operand(ctx, op, "loss", loss, DType::kFloat64, {1});
}

// x [tokens, experts], or with indices [tokens, top_k]; sums [experts].
void check_importance(const Context& ctx, const char* op, const TensorView& x,
                      const TensorView& indices, const TensorView& sums) {
  check_float(op, "x", x, 2);
  check_operand(ctx, op, "x", x, x.dtype, x.shape);
  const bool by_column = indices.empty() && x.rows() > 0;
  check_operand(ctx, op, "sums", sums, DType::kFloat64, {by_column ? x.cols() : sums.size()});
  if (!indices.empty()) check_operand(ctx, op, "indices", indices, DType::kInt32, x.shape);
}

// element(i, e) for every element i of n that belongs to an expert e.
template <class Element>
void each_of_experts(std::int64_t n, std::int64_t experts, const TensorView& indices,
                     const Element& element) {
  if (indices.empty()) {
    for (std::int64_t i = 0; i < n; ++i) element(i, i % experts);
    return;
  }
  const auto* index = indices.as<std::int32_t>();
  for (std::int64_t i = 0; i < n; ++i) {
    if (index[i] != kNoChoice) element(i, index[i]);
  }
}

// p log p of p = score / sum.
template <class T>
double plogp(T score, double sum) {
  const double p = static_cast<double>(score) / sum;
  return p > 0.0 ? p * std::log(p) : 0.0;
}

template <class T>
double entropy_of_rows(double factor, double gradient_factor, const TensorView& s,
                       const TensorView& gradient) {
  const std::int64_t experts = s.cols();
  double value = 0.0;
  for (std::int64_t t = 0; t < s.rows(); ++t) {
    const T* row = s.as<T>() + t * experts;
    T* ds = gradient.as<T>() + t * experts;
    double sum = 1e-20;
    for (std::int64_t e = 0; e < experts; ++e) sum += static_cast<double>(row[e]);
    double entropy = 0.0;
    for (std::int64_t e = 0; e < experts; ++e) entropy -= plogp(row[e], sum);
    // d/ds_i = -(log p_i + entropy) / sum
    for (std::int64_t e = 0; e < experts; ++e) {
      const double p = static_cast<double>(row[e]) / sum;
      const double slope = p > 0.0 ? -(std::log(p) + entropy) / sum : 0.0;
      ds[e] += static_cast<T>(gradient_factor * slope);
    }
    value += factor * entropy;
  }
  return value;
}

// The CV^2 of x [n], and its gradient in place of x.
double cv2_with_gradient(double* x, std::int64_t count) {
  const auto n = static_cast<double>(count);
  double mean = 0.0;
  for (std::int64_t i = 0; i < count; ++i) mean += x[i] / n;
  double variance = 0.0;
  for (std::int64_t i = 0; i < count; ++i) variance += (x[i] - mean) * (x[i] - mean) / n;
  const bool zero = mean == 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    x[i] = zero ? 0.0 : 2.0 * (x[i] - mean - variance / mean) / (n * mean * mean);
  }
  return zero ? 0.0 : variance / (mean * mean);
}

}  // namespace

void entropy_loss(const Context& ctx, double factor, double gradient_factor, const TensorView& s,
                  const TensorView& ds, const TensorView& loss) {
  const char* op = "entropy_loss";
  check_float(op, "s", s, 2);
  check_operand(ctx, op, "s", s, s.dtype, s.shape);
  check_operand(ctx, op, "ds", ds, s.dtype, s.shape);
  check_loss(ctx, op, loss);
  if (ctx.device.is_cuda()) return cuda::entropy_loss(ctx, factor, gradient_factor, s, ds, loss);
  dispatch_float(s.dtype, op, [&](auto zero) {
    *loss.as<double>() += entropy_of_rows<decltype(zero)>(factor, gradient_factor, s, ds);
  });
}

void importance(const Context& ctx, const TensorView& x, const TensorView& indices,
                const TensorView& sums) {
  const char* op = "importance";
  check_importance(ctx, op, x, indices, sums);
  if (ctx.device.is_cuda()) return cuda::importance(ctx, x, indices, sums);
  if (!indices.empty()) check_indices(op, "indices", indices, kNoChoice, sums.size());
  auto* sum = sums.as<double>();
  std::fill_n(sum, sums.size(), 0.0);
  dispatch_float(x.dtype, op, [&](auto zero) {
    const auto* value = x.as<decltype(zero)>();
    each_of_experts(x.size(), sums.size(), indices, [&](std::int64_t i, std::int64_t e) {
      sum[e] += static_cast<double>(value[i]);
    });
  });
}

void importance_backward(const Context& ctx, double factor, const TensorView& gradient,
                         const TensorView& indices, const TensorView& dx) {
  const char* op = "importance_backward";
  check_importance(ctx, op, dx, indices, gradient);
  if (ctx.device.is_cuda()) return cuda::importance_backward(ctx, factor, gradient, indices, dx);
  if (!indices.empty()) check_indices(op, "indices", indices, kNoChoice, gradient.size());
  const auto* of_expert = gradient.as<double>();
  dispatch_float(dx.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    T* to = dx.as<T>();
    each_of_experts(dx.size(), gradient.size(), indices, [&](std::int64_t i, std::int64_t e) {
      to[i] += static_cast<T>(factor * of_expert[e]);
    });
  });
}

void cv2_loss(const Context& ctx, double factor, const TensorView& sums, const TensorView& loss) {
  check_operand(ctx, "cv2_loss", "sums", sums, DType::kFloat64, {sums.size()});
  check_loss(ctx, "cv2_loss", loss);
  WITAN_CHECK(sums.size() > 1, "cv2_loss: sums: expected [experts + 1], found ",
              sums.shape.to_string());
  if (ctx.device.is_cuda()) return cuda::cv2_loss(ctx, factor, sums, loss);
  const std::int64_t experts = sums.size() - 1;
  auto* x = sums.as<double>();
  *loss.as<double>() += factor * cv2_with_gradient(x, experts);
  for (std::int64_t e = 0; e < experts; ++e) x[e] *= x[experts];
}

void load_factors(const Context& ctx, const LoadFactors& factors, double gradient_factor,
                  const TensorView& indices, const TensorView& f, const TensorView& coefficient) {
  const char* op = "load_factors";
  const std::int64_t experts = f.size();
  check_operand(ctx, op, "indices", indices, DType::kInt32, {indices.rows(), indices.cols()});
  check_operand(ctx, op, "f", f, DType::kFloat64, {experts});
  check_operand(ctx, op, "coefficient", coefficient, coefficient.dtype, {experts});
  if (ctx.device.is_cuda()) {
    return cuda::load_factors(ctx, factors, gradient_factor, indices, f, coefficient);
  }
  check_indices(op, "indices", indices, kNoChoice, experts);
  auto* counts = cpu::scratch_of<std::int64_t>(experts);
  std::fill_n(counts, experts, std::int64_t{0});
  std::int64_t total = 0;
  const auto* index = indices.as<std::int32_t>();
  for (std::int64_t i = 0; i < indices.size(); ++i) {
    if (index[i] == kNoChoice) continue;
    ++counts[index[i]];
    ++total;
  }
  dispatch_float(coefficient.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t e = 0; e < experts; ++e) {
      const double share =
          total > 0 ? static_cast<double>(counts[e]) / static_cast<double>(total) : 0.0;
      const double value =
          (e < factors.computing_experts ? factors.computing : factors.others) * share;
      f.as<double>()[e] = value;
      coefficient.as<T>()[e] = static_cast<T>(value * gradient_factor);
    }
  });
}

}  // namespace witan::ops
