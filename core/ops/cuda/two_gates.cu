// Two gates on CUDA. A thread takes one group of a token, whose experts are few neighbours: it
// reads them more than once, but from memory only the first time. Sums are in the CPU's order.
#include "core/ops/cuda/two_gates.h"

#include <cstddef>
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/choices.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/cuda/row_warps.h"
#include "core/ops/topk.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

// logsumexp of value(0) .. value(n - 1); minus infinity if all of them are.
template <class Value>
__device__ double logsumexp(std::int64_t n, const Value& value) {
  double largest = -static_cast<double>(INFINITY);
  for (std::int64_t i = 0; i < n; ++i) largest = value(i) > largest ? value(i) : largest;
  if (largest == -static_cast<double>(INFINITY)) return largest;
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) sum += exp(value(i) - largest);
  return largest + log(sum);
}
template <class T>
__device__ double logsumexp_of(const T* x, std::int64_t n) {
  return logsumexp(n, [&](std::int64_t i) { return static_cast<double>(x[i]); });
}

__device__ double softmax_of(double x, double lse) {
  return lse == -static_cast<double>(INFINITY) ? 0.0 : exp(x - lse);
}

// z in place of v, from u; 12 bytes an element of float32
template <class T>
__global__ void join_gates_kernel(const T* u, std::int64_t n, std::int64_t size, T* z) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    T* v = z + i * size;
    const double shift = static_cast<double>(u[i]) - logsumexp_of(v, size);
    for (std::int64_t e = 0; e < size; ++e) {
      v[e] = static_cast<T>(static_cast<double>(v[e]) + shift);
    }
  }
}

// One warp a token, one pass over its groups for each that it chooses and over the experts of that
// group for each choice.
template <class T>
__global__ void gate_choices_kernel(TwoGates gates, std::int64_t size, const T* z, const T* u,
                                    std::int64_t tokens, std::int32_t* indices) {
  const std::int64_t token = row_of_warp();
  if (token >= tokens) return;
  z += token * gates.groups * size;
  u += token * gates.groups;
  indices += token * gates.keep * gates.k;
  const auto lane = static_cast<std::int32_t>(threadIdx.x);
  const auto groups = static_cast<std::int32_t>(gates.groups);
  const auto gate = [&](std::int32_t g) {
    const T nothing = -static_cast<T>(INFINITY);
    return z[g * size] == nothing ? nothing : rank_of(u[g]);
  };
  const auto value = [&](std::int32_t e) { return rank_of(z[e]); };
  Choice<T> group{0, -1};
  for (std::int64_t j = 0; j < gates.keep; ++j) {
    group = first_of_warp(next_choice(lane, groups, kWarpSize, j == 0, group, gate));
    const auto begin = static_cast<std::int32_t>(group.index * size);
    const auto end = static_cast<std::int32_t>(begin + size);
    Choice<T> expert{0, -1};
    for (std::int64_t i = 0; i < gates.k; ++i) {
      expert = first_of_warp(next_choice(begin + lane, end, kWarpSize, i == 0, expert, value));
      if (lane == 0) indices[j * gates.k + i] = expert.index;
    }
  }
}

// What the kernels of the weights read. Gate i is chosen group i % keep of token i / keep.
template <class T>
struct ChosenGates {
  TwoGates gates;
  std::int64_t size;  // experts of a group
  double scale;
  const T* z;
  const std::int32_t* indices;  // [n, k]
  std::int64_t n;               // tokens * keep
  const double* u;              // [n] logits of the gates, minus infinity without a choice

  __device__ const T* logits(std::int64_t i) const {
    return z + i / gates.keep * gates.groups * size;
  }
  __device__ const std::int32_t* chosen(std::int64_t i) const { return indices + i * gates.k; }
  // The logit of a choice of a gate.
  __device__ double logit(std::int64_t i, std::int64_t j) const {
    const std::int32_t expert = chosen(i)[j];
    return expert == kNoChoice ? -static_cast<double>(INFINITY)
                               : static_cast<double>(logits(i)[expert]);
  }
  // logsumexp over the choices of a gate, and over the gates of its token.
  __device__ double expert_lse(std::int64_t i) const {
    return logsumexp(gates.k, [&](std::int64_t j) { return logit(i, j); });
  }
  __device__ double group_lse(std::int64_t i) const {
    return logsumexp_of(u + i / gates.keep * gates.keep, gates.keep);
  }
};

// u [n] of each gate: the logsumexp of z over its group
template <class T>
__global__ void gate_logits_kernel(ChosenGates<T> all, double* u) {
  for (std::int64_t i = first_index(); i < all.n; i += index_stride()) {
    double lse = -static_cast<double>(INFINITY);
    for (std::int64_t j = 0; j < all.gates.k; ++j) {
      const std::int32_t expert = all.chosen(i)[j];
      if (expert == kNoChoice) continue;
      lse = logsumexp_of(all.logits(i) + expert / all.size * all.size, all.size);
      break;
    }
    u[i] = lse;
  }
}

template <class T>
__global__ void gate_weights_kernel(ChosenGates<T> all, T* weights) {
  for (std::int64_t i = first_index(); i < all.n; i += index_stride()) {
    const double group = softmax_of(all.u[i], all.group_lse(i));
    const double lse = all.expert_lse(i);
    for (std::int64_t j = 0; j < all.gates.k; ++j) {
      weights[i * all.gates.k + j] =
          static_cast<T>(all.scale * group * softmax_of(all.logit(i, j), lse));
    }
  }
}

// dgroup [n]: the gradient of each gate's value
template <class T>
__global__ void gate_gradients_kernel(ChosenGates<T> all, const T* dweights, double* dgroup) {
  for (std::int64_t i = first_index(); i < all.n; i += index_stride()) {
    const double lse = all.expert_lse(i);
    double sum = 0.0;
    for (std::int64_t j = 0; j < all.gates.k; ++j) {
      if (all.chosen(i)[j] == kNoChoice) continue;
      sum += all.scale * static_cast<double>(dweights[i * all.gates.k + j]) *
             softmax_of(all.logit(i, j), lse);
    }
    dgroup[i] = sum;
  }
}

// dz += what reaches the experts of each gate's group, which no other thread has: 8 bytes of
// float32 an element of a chosen group
template <class T>
__global__ void gate_weights_backward_kernel(ChosenGates<T> all, const T* dweights,
                                             const double* dgroup, T* dz) {
  for (std::int64_t i = first_index(); i < all.n; i += index_stride()) {
    if (all.u[i] == -static_cast<double>(INFINITY)) continue;
    const std::int64_t keep = all.gates.keep;
    const std::int64_t first = i / keep * keep;  // gate of the token
    const double group_lse = all.group_lse(i);
    double mean = 0.0;
    for (std::int64_t j = first; j < first + keep; ++j) {
      mean += dgroup[j] * softmax_of(all.u[j], group_lse);
    }
    const double group = softmax_of(all.u[i], group_lse);
    const double expert_lse = all.expert_lse(i);
    T* gradient = dz + (all.logits(i) - all.z);
    std::int64_t begin = 0;
    for (std::int64_t j = 0; j < all.gates.k; ++j) {
      const std::int32_t expert = all.chosen(i)[j];
      if (expert == kNoChoice) continue;
      begin = expert / all.size * all.size;
      const double dexpert = group * all.scale * static_cast<double>(dweights[i * all.gates.k + j]);
      gradient[expert] +=
          static_cast<T>(softmax_of(all.logit(i, j), expert_lse) * (dexpert - group * dgroup[i]));
    }
    // u is the logsumexp of z over the whole group.
    const double du = group * (dgroup[i] - mean);
    for (std::int64_t e = begin; e < begin + all.size; ++e) {
      gradient[e] += static_cast<T>(du * exp(static_cast<double>(all.logits(i)[e]) - all.u[i]));
    }
  }
}

// dv in place of dz, and du; 16 bytes an element of float32
template <class T>
__global__ void join_gates_backward_kernel(const T* z, std::int64_t n, std::int64_t size, T* dz,
                                           T* du) {
  for (std::int64_t i = first_index(); i < n; i += index_stride()) {
    const T* logit = z + i * size;
    T* gradient = dz + i * size;
    double sum = 0.0;
    for (std::int64_t e = 0; e < size; ++e) sum += static_cast<double>(gradient[e]);
    du[i] = static_cast<T>(sum);
    const double lse = logsumexp_of(logit, size);
    if (lse == -static_cast<double>(INFINITY)) continue;  // barred
    for (std::int64_t e = 0; e < size; ++e) {
      gradient[e] -= static_cast<T>(sum * exp(static_cast<double>(logit[e]) - lse));
    }
  }
}

// The gates of all tokens, after their logits were written into scratch; behind those there are
// `more` numbers a gate for the caller.
template <class T>
struct GateScratch {
  GateScratch(const Context& ctx, const TwoGates& gates, double scale, const TensorView& z,
              const TensorView& indices, std::int64_t more) {
    const std::int64_t n = z.rows() * gates.keep;
    auto* const u = static_cast<double*>(
        witan::cuda::scratch(ctx, static_cast<std::size_t>(n * (1 + more)) * sizeof(double)));
    all = {gates, z.cols() / gates.groups, scale, z.as<T>(), indices.as<std::int32_t>(), n, u};
    rest = u + n;
    launch(gate_logits_kernel<T>, flat_grid(n), dim3(kFlatThreads), 0, ctx.stream, all, u);
  }
  ChosenGates<T> all;
  double* rest;
};

}  // namespace

void join_gates(const Context& ctx, const TensorView& u, const TensorView& z) {
  if (z.size() == 0) return;
  dispatch_float(z.dtype, "join_gates", [&](auto zero) {
    using T = decltype(zero);
    launch(join_gates_kernel<T>, flat_grid(u.size()), dim3(kFlatThreads), 0, ctx.stream, u.as<T>(),
           u.size(), z.cols() / u.cols(), z.as<T>());
  });
}

void gate_choices(const Context& ctx, const TwoGates& gates, const TensorView& z,
                  const TensorView& u, const TensorView& indices) {
  if (z.size() == 0) return;
  dispatch_float(z.dtype, "gate_choices", [&](auto zero) {
    using T = decltype(zero);
    launch(gate_choices_kernel<T>, warp_grid(z.rows()), warp_block(), 0, ctx.stream, gates,
           z.cols() / gates.groups, z.as<T>(), u.as<T>(), z.rows(), indices.as<std::int32_t>());
  });
}

void gate_weights(const Context& ctx, const TwoGates& gates, double scale, const TensorView& z,
                  const TensorView& indices, const TensorView& weights) {
  if (z.size() == 0) return;
  dispatch_float(z.dtype, "gate_weights", [&](auto zero) {
    using T = decltype(zero);
    const GateScratch<T> gate(ctx, gates, scale, z, indices, 0);
    launch(gate_weights_kernel<T>, flat_grid(gate.all.n), dim3(kFlatThreads), 0, ctx.stream,
           gate.all, weights.as<T>());
  });
}

void gate_weights_backward(const Context& ctx, const TwoGates& gates, double scale,
                           const TensorView& z, const TensorView& indices,
                           const TensorView& dweights, const TensorView& dz) {
  if (z.size() == 0) return;
  dispatch_float(z.dtype, "gate_weights_backward", [&](auto zero) {
    using T = decltype(zero);
    const GateScratch<T> gate(ctx, gates, scale, z, indices, 1);
    launch(gate_gradients_kernel<T>, flat_grid(gate.all.n), dim3(kFlatThreads), 0, ctx.stream,
           gate.all, dweights.as<T>(), gate.rest);
    launch(gate_weights_backward_kernel<T>, flat_grid(gate.all.n), dim3(kFlatThreads), 0,
           ctx.stream, gate.all, dweights.as<T>(), gate.rest, dz.as<T>());
  });
}

void join_gates_backward(const Context& ctx, const TensorView& z, const TensorView& dz,
                         const TensorView& du) {
  if (z.size() == 0) return;
  dispatch_float(z.dtype, "join_gates_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(join_gates_backward_kernel<T>, flat_grid(du.size()), dim3(kFlatThreads), 0, ctx.stream,
           z.as<T>(), du.size(), z.cols() / du.cols(), dz.as<T>(), du.as<T>());
  });
}

}  // namespace witan::ops::cuda
