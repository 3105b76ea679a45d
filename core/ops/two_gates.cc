#include "core/ops/two_gates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/base/error.h"
#include "core/ops/cuda/two_gates.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/topk.h"

namespace witan::ops {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// logsumexp of n values; minus infinity if all of them are.
template <class T>
double logsumexp(const T* x, std::int64_t n) {
  const auto largest = static_cast<double>(*std::max_element(x, x + n));
  if (largest == kNothing) return kNothing;
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - largest);
  return largest + std::log(sum);
}

// In place; zeros if all are minus infinity.
void softmax(double* x, std::int64_t n) {
  const double lse = logsumexp(x, n);
  for (std::int64_t i = 0; i < n; ++i) x[i] = lse == kNothing ? 0.0 : std::exp(x[i] - lse);
}

// The `count` largest of values(0) .. values(n - 1), in descending order.
template <class Value>
void largest(std::int64_t n, std::int64_t count, const Value& value,
             std::vector<std::int64_t>& order) {
  order.resize(at(n));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      return value(a) != value(b) ? value(a) > value(b) : a < b;
                    });
  order.resize(at(count));
}

// One token's weights and what their gradients need.
struct Opened {
  std::vector<double> group;   // [keep] softmax of u over the chosen groups that keep an expert
  std::vector<double> expert;  // [keep, k] softmax of z over the chosen experts of each
};

// `size`: experts of a group.
template <class T>
void open_gates(const TwoGates& gates, std::int64_t size, const T* z, const std::int32_t* chosen,
                Opened& opened) {
  opened.group.assign(at(gates.keep), kNothing);
  opened.expert.assign(at(gates.keep * gates.k), kNothing);
  for (std::int64_t j = 0; j < gates.keep * gates.k; ++j) {
    if (chosen[j] == kNoChoice) continue;
    const std::int64_t group = chosen[j] / size;
    opened.expert[at(j)] = static_cast<double>(z[chosen[j]]);
    opened.group[at(j / gates.k)] = logsumexp(z + group * size, size);
  }
  softmax(opened.group.data(), gates.keep);
  for (std::int64_t j = 0; j < gates.keep; ++j) {
    softmax(opened.expert.data() + j * gates.k, gates.k);
  }
}

// dz += the gradient through the weights of one token: w = scale * group * expert.
template <class T>
void token_backward(const TwoGates& gates, std::int64_t size, double scale, const T* z,
                    const std::int32_t* chosen, const Opened& opened, const T* dweights, T* dz) {
  std::vector<double> dgroup(opened.group.size(), 0.0);  // of each gate's value
  double mean = 0.0;                                     // of dgroup, weighted by the gates
  for (std::size_t j = 0; j < opened.group.size(); ++j) {
    for (std::size_t i = j * at(gates.k); i < (j + 1) * at(gates.k); ++i) {
      if (chosen[i] == kNoChoice) continue;
      dgroup[j] += scale * static_cast<double>(dweights[i]) * opened.expert[i];
    }
    mean += dgroup[j] * opened.group[j];
  }
  for (std::size_t j = 0; j < opened.group.size(); ++j) {
    const std::int32_t* first = chosen + j * at(gates.k);
    const auto* some = std::find_if(first, first + gates.k, [](auto e) { return e >= 0; });
    if (some == first + gates.k) continue;
    for (std::size_t i = j * at(gates.k); i < (j + 1) * at(gates.k); ++i) {
      if (chosen[i] == kNoChoice) continue;
      const double dexpert = opened.group[j] * scale * static_cast<double>(dweights[i]);
      dz[chosen[i]] += static_cast<T>(opened.expert[i] * (dexpert - opened.group[j] * dgroup[j]));
    }
    // u_g is the logsumexp of z over the whole group.
    const std::int64_t begin = *some / size * size;
    const double lse = logsumexp(z + begin, size);
    const double du = opened.group[j] * (dgroup[j] - mean);
    for (std::int64_t e = begin; e < begin + size; ++e) {
      dz[e] += static_cast<T>(du * std::exp(static_cast<double>(z[e]) - lse));
    }
  }
}

// z [tokens, experts], whose experts make `groups` equal groups.
void check_logits(const Context& ctx, const char* op, std::int64_t groups, const TensorView& z) {
  check_float(op, "z", z, 2);
  check_operand(ctx, op, "z", z, z.dtype, z.shape);
  WITAN_CHECK(groups >= 1 && z.cols() >= groups && z.cols() % groups == 0, op, ": ", z.cols(),
              " experts do not make ", groups, " equal groups");
}

void check_choices(const Context& ctx, const char* op, const TwoGates& gates, const TensorView& z,
                   const TensorView& indices) {
  check_logits(ctx, op, gates.groups, z);
  WITAN_CHECK(gates.keep >= 1 && gates.keep <= gates.groups && gates.k >= 1 &&
                  gates.k <= z.cols() / gates.groups,
              op, ": ", gates.k, " experts in ", gates.keep, " of ", gates.groups, " groups of ",
              z.cols() / gates.groups);
  check_operand(ctx, op, "indices", indices, DType::kInt32, {z.rows(), gates.keep * gates.k});
}

}  // namespace

void join_gates(const Context& ctx, const TensorView& u, const TensorView& z) {
  const char* op = "join_gates";
  check_logits(ctx, op, u.cols(), z);
  check_operand(ctx, op, "u", u, z.dtype, {z.rows(), u.cols()});
  if (ctx.device.is_cuda()) return cuda::join_gates(ctx, u, z);
  const std::int64_t size = z.cols() / u.cols();
  dispatch_float(u.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    const T* of_group = u.as<T>();
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < u.size(); ++i) {
      T* v = z.as<T>() + i * size;
      const double shift = static_cast<double>(of_group[i]) - logsumexp(v, size);
      for (std::int64_t e = 0; e < size; ++e) {
        v[e] = static_cast<T>(static_cast<double>(v[e]) + shift);
      }
    }
  });
}

void gate_choices(const Context& ctx, const TwoGates& gates, const TensorView& z,
                  const TensorView& u, const TensorView& indices) {
  const char* op = "gate_choices";
  check_choices(ctx, op, gates, z, indices);
  check_operand(ctx, op, "u", u, z.dtype, {z.rows(), gates.groups});
  if (ctx.device.is_cuda()) return cuda::gate_choices(ctx, gates, z, u, indices);
  const std::int64_t size = z.cols() / gates.groups;
  dispatch_float(z.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    const T* logit = z.as<T>();
    const T* of_group = u.as<T>();
    auto* index = indices.as<std::int32_t>();
    std::vector<std::int64_t> groups, experts;
    for (std::int64_t t = 0; t < z.rows(); ++t, logit += z.cols(), of_group += gates.groups) {
      const auto gate = [&](std::int64_t g) {
        return logit[g * size] == kNothing ? kNothing : static_cast<double>(of_group[g]);
      };
      largest(gates.groups, gates.keep, gate, groups);
      for (const std::int64_t g : groups) {
        largest(
            size, gates.k, [&](std::int64_t e) { return logit[g * size + e]; }, experts);
        for (const std::int64_t e : experts) *index++ = static_cast<std::int32_t>(g * size + e);
      }
    }
  });
}

void gate_weights(const Context& ctx, const TwoGates& gates, double scale, const TensorView& z,
                  const TensorView& indices, const TensorView& weights) {
  const char* op = "gate_weights";
  check_choices(ctx, op, gates, z, indices);
  check_operand(ctx, op, "weights", weights, z.dtype, indices.shape);
  if (ctx.device.is_cuda()) return cuda::gate_weights(ctx, gates, scale, z, indices, weights);
  check_indices(op, "indices", indices, kNoChoice, z.cols());
  const std::int64_t top_k = indices.cols();
  dispatch_float(weights.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    Opened opened;
    for (std::int64_t t = 0; t < weights.rows(); ++t) {
      open_gates(gates, z.cols() / gates.groups, z.as<T>() + t * z.cols(),
                 indices.as<std::int32_t>() + t * top_k, opened);
      T* w = weights.as<T>() + t * top_k;
      for (std::int64_t j = 0; j < top_k; ++j) {
        w[j] = static_cast<T>(scale * opened.group[at(j / gates.k)] * opened.expert[at(j)]);
      }
    }
  });
}

void gate_weights_backward(const Context& ctx, const TwoGates& gates, double scale,
                           const TensorView& z, const TensorView& indices,
                           const TensorView& dweights, const TensorView& dz) {
  const char* op = "gate_weights_backward";
  check_choices(ctx, op, gates, z, indices);
  check_operand(ctx, op, "dweights", dweights, z.dtype, indices.shape);
  check_operand(ctx, op, "dz", dz, z.dtype, z.shape);
  if (ctx.device.is_cuda()) {
    return cuda::gate_weights_backward(ctx, gates, scale, z, indices, dweights, dz);
  }
  check_indices(op, "indices", indices, kNoChoice, z.cols());
  const std::int64_t size = z.cols() / gates.groups;
  const std::int64_t top_k = indices.cols();
  dispatch_float(dz.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    Opened opened;
    for (std::int64_t t = 0; t < dz.rows(); ++t) {
      const T* logit = z.as<T>() + t * dz.cols();
      const std::int32_t* chosen = indices.as<std::int32_t>() + t * top_k;
      open_gates(gates, size, logit, chosen, opened);
      token_backward(gates, size, scale, logit, chosen, opened, dweights.as<T>() + t * top_k,
                     dz.as<T>() + t * dz.cols());
    }
  });
}

void join_gates_backward(const Context& ctx, const TensorView& z, const TensorView& dz,
                         const TensorView& du) {
  const char* op = "join_gates_backward";
  check_logits(ctx, op, du.cols(), z);
  check_operand(ctx, op, "dz", dz, z.dtype, z.shape);
  check_operand(ctx, op, "du", du, z.dtype, {z.rows(), du.cols()});
  if (ctx.device.is_cuda()) return cuda::join_gates_backward(ctx, z, dz, du);
  const std::int64_t size = z.cols() / du.cols();
  dispatch_float(dz.dtype, op, [&](auto zero) {
    using T = decltype(zero);
#pragma omp parallel for schedule(static)
    for (std::int64_t i = 0; i < du.size(); ++i) {
      const T* logit = z.as<T>() + i * size;
      T* gradient = dz.as<T>() + i * size;
      const double sum = std::accumulate(gradient, gradient + size, 0.0);
      du.as<T>()[i] = static_cast<T>(sum);
      const double lse = logsumexp(logit, size);
      if (lse == kNothing) continue;  // no token of this tag
      for (std::int64_t e = 0; e < size; ++e) {
        gradient[e] -= static_cast<T>(sum * std::exp(static_cast<double>(logit[e]) - lse));
      }
    }
  });
}

}  // namespace witan::ops
