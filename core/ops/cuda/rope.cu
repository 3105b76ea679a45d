// Rotary embedding with its optional norm on CUDA: one block a token, one warp a head. Moves every
// row of queries, keys and values in and out once (a norm reads it twice, the second time from the
// cache). The norm weights' gradients are summed in two stages, as RMSNorm's are.
#include "core/ops/cuda/rope.h"

#include <algorithm>
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/cuda/rope_angles.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

constexpr std::int64_t kMostWarps = 8;         // of the block of a token
constexpr int kColumnThreads = 128;            // of the sums over tokens
constexpr std::int64_t kTokensOfPartial = 32;  // fixed, so the order of the sum is too

struct Heads {
  std::int64_t heads, kv_heads, head_dim;
  bool norm_whole;
  double eps;

  __device__ std::int64_t rotated() const { return heads + kv_heads; }
  __device__ std::int64_t width() const { return (heads + 2 * kv_heads) * head_dim; }
  __device__ std::int64_t norms() const { return norm_whole ? 2 : rotated(); }
  __device__ std::int64_t q_size() const { return norm_whole ? heads * head_dim : head_dim; }
  __device__ std::int64_t k_size() const { return norm_whole ? kv_heads * head_dim : head_dim; }
};

// Where the values of a head stand in the weights of its norm.
template <class T>
__device__ const T* norm_weights(const Heads& shape, std::int64_t head, const T* q_norm,
                                 const T* k_norm) {
  const bool query = head < shape.heads;
  const T* w = query ? q_norm : k_norm;
  return shape.norm_whole ? w + (query ? head : head - shape.heads) * shape.head_dim : w;
}

// Sum of term(i) for i in [0, count), by one warp or by the block.
template <class F>
__device__ double sum_of_warp(std::int64_t count, const F& term) {
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x % kWarpSize; i < count; i += kWarpSize) sum += term(i);
  return warp_sum(sum);
}
template <class F>
__device__ double sum_of_block(std::int64_t count, double* partial, const F& term) {
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += term(i);
  return block_sum(sum, partial);
}

template <class T>
__device__ T rstd_of(double squares, std::int64_t count, double eps) {
  return static_cast<T>(1.0 / sqrt(squares / static_cast<double>(count) + eps));
}

// qkv, out [tokens, width]; rstd [tokens, norms]; null weights: no norm. Shared: 2 pairs of T.
template <class T>
__global__ void rope_forward_kernel(Heads shape, RopeFrequencies frequencies, const T* qkv,
                                    const std::int32_t* positions, const T* q_norm, const T* k_norm,
                                    T* out, T* rstd) {
  WITAN_SHARED(double[kMaxWarps], q_partial);
  WITAN_SHARED(double[kMaxWarps], k_partial);
  T* cos_sin = dynamic_shared<T>();
  const std::int64_t token = blockIdx.x;
  const std::int64_t half = shape.head_dim / 2;
  qkv += token * shape.width();
  out += token * shape.width();
  write_angles(frequencies, positions[token], cos_sin);
  __syncthreads();

  T q_scale = 1;
  T k_scale = 1;
  if (q_norm != nullptr && shape.norm_whole) {
    const T* keys = qkv + shape.q_size();
    const auto square = [](const T* x) {
      return [x](std::int64_t i) { return static_cast<double>(x[i]) * static_cast<double>(x[i]); };
    };
    q_scale =
        rstd_of<T>(sum_of_block(shape.q_size(), q_partial, square(qkv)), shape.q_size(), shape.eps);
    k_scale = rstd_of<T>(sum_of_block(shape.k_size(), k_partial, square(keys)), shape.k_size(),
                         shape.eps);
    if (threadIdx.x == 0) {
      rstd[token * 2] = q_scale;
      rstd[token * 2 + 1] = k_scale;
    }
  }
  const std::int64_t warps = blockDim.x / kWarpSize;
  const std::int64_t lane = threadIdx.x % kWarpSize;
  for (std::int64_t head = threadIdx.x / kWarpSize; head < shape.rotated(); head += warps) {
    const T* x = qkv + head * shape.head_dim;
    T* y = out + head * shape.head_dim;
    const T* w = q_norm == nullptr ? nullptr : norm_weights(shape, head, q_norm, k_norm);
    T scale = head < shape.heads ? q_scale : k_scale;
    if (w != nullptr && !shape.norm_whole) {
      const double squares = sum_of_warp(shape.head_dim, [x](std::int64_t i) {
        return static_cast<double>(x[i]) * static_cast<double>(x[i]);
      });
      scale = rstd_of<T>(squares, shape.head_dim, shape.eps);
      if (lane == 0) rstd[token * shape.norms() + head] = scale;
    }
    for (std::int64_t i = lane; i < half; i += kWarpSize) {
      T first = x[i];
      T second = x[half + i];
      if (w != nullptr) {
        first = first * scale * w[i];
        second = second * scale * w[half + i];
      }
      const T cosine = cos_sin[i];
      const T sine = cos_sin[half + i];
      y[i] = first * cosine - second * sine;
      y[half + i] = second * cosine + first * sine;
    }
  }
  if (out == qkv) return;
  for (std::int64_t i = shape.rotated() * shape.head_dim + threadIdx.x; i < shape.width();
       i += blockDim.x) {
    out[i] = qkv[i];
  }
}

// Element i of a head's gradient before the rotation.
template <class T>
__device__ T rotated_back(const T* dout, const T* cos_sin, std::int64_t half, std::int64_t i) {
  return i < half ? dout[i] * cos_sin[i] + dout[half + i] * cos_sin[half + i]
                  : dout[i] * cos_sin[i - half] - dout[i - half] * cos_sin[i];
}

// With g the gradient before the rotation and x the input: dx = rstd g w - x rstd^3 mean(g w x), or
// g without a norm. Shared: 2 pairs of T.
template <class T>
__global__ void rope_backward_kernel(Heads shape, RopeFrequencies frequencies, const T* dout,
                                     const std::int32_t* positions, const T* qkv, const T* q_norm,
                                     const T* k_norm, const T* rstd, T* dqkv) {
  WITAN_SHARED(double[kMaxWarps], q_partial);
  WITAN_SHARED(double[kMaxWarps], k_partial);
  T* cos_sin = dynamic_shared<T>();
  const std::int64_t token = blockIdx.x;
  const std::int64_t d = shape.head_dim;
  const std::int64_t half = d / 2;
  const std::int64_t row = token * shape.width();
  dout += row;
  dqkv += row;
  write_angles(frequencies, positions[token], cos_sin);
  __syncthreads();

  double q_dot = 0.0;
  double k_dot = 0.0;
  if (q_norm != nullptr && shape.norm_whole) {
    const T* x = qkv + row;
    const auto term = [=](std::int64_t at, T weight) {
      const T g = rotated_back(dout + at / d * d, cos_sin, half, at % d);
      return static_cast<double>(g) * static_cast<double>(weight) * static_cast<double>(x[at]);
    };
    const std::int64_t q_size = shape.q_size();
    q_dot = sum_of_block(q_size, q_partial, [&](std::int64_t i) { return term(i, q_norm[i]); });
    k_dot = sum_of_block(shape.k_size(), k_partial,
                         [&](std::int64_t i) { return term(q_size + i, k_norm[i]); });
  }
  const std::int64_t warps = blockDim.x / kWarpSize;
  const std::int64_t lane = threadIdx.x % kWarpSize;
  for (std::int64_t head = threadIdx.x / kWarpSize; head < shape.rotated(); head += warps) {
    const T* grad = dout + head * d;
    T* dx = dqkv + head * d;
    const bool query = head < shape.heads;
    const T* w = nullptr;
    const T* x = nullptr;
    T scale = 1;
    T slope = 0;
    if (q_norm != nullptr) {
      w = norm_weights(shape, head, q_norm, k_norm);
      x = qkv + row + head * d;
      double dot = query ? q_dot : k_dot;
      if (!shape.norm_whole) {
        dot = sum_of_warp(d, [=](std::int64_t i) {
          return static_cast<double>(rotated_back(grad, cos_sin, half, i)) *
                 static_cast<double>(w[i]) * static_cast<double>(x[i]);
        });
      }
      const std::int64_t norm = !shape.norm_whole ? head : query ? 0 : 1;
      scale = rstd[token * shape.norms() + norm];
      const double wide = static_cast<double>(scale);
      const std::int64_t count = query ? shape.q_size() : shape.k_size();
      slope = static_cast<T>(wide * wide * wide * dot / static_cast<double>(count));
    }
    __syncwarp();  // dqkv may be dout: the warp has read the head
    for (std::int64_t i = lane; i < half; i += kWarpSize) {
      T first = rotated_back(grad, cos_sin, half, i);
      T second = rotated_back(grad, cos_sin, half, half + i);
      if (w != nullptr) {
        first = first * w[i] * scale - x[i] * slope;
        second = second * w[half + i] * scale - x[half + i] * slope;
      }
      dx[i] = first;
      dx[half + i] = second;
    }
  }
  if (dqkv == dout) return;
  for (std::int64_t i = shape.rotated() * d + threadIdx.x; i < shape.width(); i += blockDim.x) {
    dqkv[i] = dout[i];
  }
}

// partial [token blocks, q_size + k_size]: sums of g x rstd over kTokensOfPartial tokens and, where
// heads share the weights, over the heads. Block (columns, tokens). Shared: 2 pairs of T.
template <class T>
__global__ void rope_backward_partial_norm_kernel(Heads shape, RopeFrequencies frequencies,
                                                  const T* dout, const std::int32_t* positions,
                                                  const T* qkv, const T* rstd, std::int64_t tokens,
                                                  double* partial) {
  T* cos_sin = dynamic_shared<T>();
  const std::int64_t d = shape.head_dim;
  const std::int64_t columns = shape.q_size() + shape.k_size();
  const std::int64_t column = first_index();
  const bool query = column < shape.q_size();
  const std::int64_t within = query ? column : column - shape.q_size();  // of its weights
  const std::int64_t first_head = (query ? 0 : shape.heads) + (shape.norm_whole ? within / d : 0);
  const std::int64_t heads = shape.norm_whole ? 1 : query ? shape.heads : shape.kv_heads;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * kTokensOfPartial;
  const std::int64_t end = begin + kTokensOfPartial < tokens ? begin + kTokensOfPartial : tokens;
  double sum = 0.0;
  for (std::int64_t token = begin; token < end; ++token) {
    __syncthreads();  // the angles of the token before have been read
    write_angles(frequencies, positions[token], cos_sin);
    __syncthreads();
    if (column >= columns) continue;
    const T* scale = rstd + token * shape.norms();
    for (std::int64_t head = first_head; head < first_head + heads; ++head) {
      const std::int64_t at = token * shape.width() + head * d;
      const T g = rotated_back(dout + at, cos_sin, d / 2, within % d);
      const T rstd_of_head = scale[!shape.norm_whole ? head : query ? 0 : 1];
      sum += static_cast<double>(g) * static_cast<double>(qkv[at + within % d] * rstd_of_head);
    }
  }
  if (column < columns) partial[static_cast<std::int64_t>(blockIdx.y) * columns + column] = sum;
}

// dq_norm, dk_norm += column sums of partial [blocks, q_size + k_size]; one thread a column.
template <class T>
__global__ void rope_backward_norm_kernel(const double* partial, std::int64_t blocks,
                                          std::int64_t q_size, std::int64_t k_size, T* dq_norm,
                                          T* dk_norm) {
  const std::int64_t column = first_index();
  if (column >= q_size + k_size) return;
  double total = 0.0;
  for (std::int64_t b = 0; b < blocks; ++b) total += partial[b * (q_size + k_size) + column];
  T& sum = column < q_size ? dq_norm[column] : dk_norm[column - q_size];
  sum = static_cast<T>(static_cast<double>(sum) + total);
}

Heads heads_of(const RopeShape& shape) {
  return {shape.heads, shape.kv_heads, shape.head_dim, shape.norm_whole, shape.qk_norm_eps};
}

RopeFrequencies rope_frequencies_of(const RopeShape& shape) {
  return frequencies_of(shape.theta, shape.head_dim, shape.scaling);
}

template <class T>
const T* optional(const TensorView& x) {
  return x.empty() ? nullptr : x.as<T>();
}

dim3 token_block(const RopeShape& shape) {
  const std::int64_t warps = std::min(kMostWarps, shape.heads + shape.kv_heads);
  return dim3(static_cast<unsigned>(warps * kWarpSize));
}

template <class T>
std::size_t angle_bytes(const RopeShape& shape) {
  return static_cast<std::size_t>(shape.head_dim) * sizeof(T);
}

}  // namespace

void rope(const Context& ctx, const RopeShape& shape, const TensorView& qkv,
          const TensorView& positions, const TensorView& q_norm, const TensorView& k_norm,
          const TensorView& out, const TensorView& rstd) {
  if (qkv.rows() == 0) return;
  dispatch_float(qkv.dtype, "rope", [&](auto zero) {
    using T = decltype(zero);
    launch(rope_forward_kernel<T>, dim3(grid_extent(qkv.rows(), kMaxGridX)), token_block(shape),
           angle_bytes<T>(shape), ctx.stream, heads_of(shape), rope_frequencies_of(shape),
           qkv.as<T>(), positions.as<std::int32_t>(), optional<T>(q_norm), optional<T>(k_norm),
           out.as<T>(), q_norm.empty() ? nullptr : rstd.as<T>());
  });
}

void rope_backward(const Context& ctx, const RopeShape& shape, const TensorView& dout,
                   const TensorView& positions, const TensorView& qkv, const TensorView& q_norm,
                   const TensorView& k_norm, const TensorView& rstd, const TensorView& dqkv,
                   const TensorView& dq_norm, const TensorView& dk_norm) {
  const std::int64_t tokens = dout.rows();
  if (tokens == 0) return;
  dispatch_float(dout.dtype, "rope_backward", [&](auto zero) {
    using T = decltype(zero);
    const auto* position = positions.as<std::int32_t>();
    if (!q_norm.empty()) {
      // First of all, since dqkv may be dout.
      const std::int64_t columns = shape.q_norm_size() + shape.k_norm_size();
      const std::int64_t blocks = blocks_of(tokens, kTokensOfPartial);
      auto* partial = static_cast<double*>(
          witan::cuda::scratch(ctx, static_cast<std::size_t>(blocks * columns) * sizeof(double)));
      const dim3 column_grid(grid_extent(blocks_of(columns, kColumnThreads), kMaxGridX));
      launch(rope_backward_partial_norm_kernel<T>,
             dim3(column_grid.x, grid_extent(blocks, kMaxGridY)), dim3(kColumnThreads),
             angle_bytes<T>(shape), ctx.stream, heads_of(shape), rope_frequencies_of(shape),
             dout.as<T>(), position, qkv.as<T>(), rstd.as<T>(), tokens, partial);
      launch(rope_backward_norm_kernel<T>, column_grid, dim3(kColumnThreads), 0, ctx.stream,
             partial, blocks, shape.q_norm_size(), shape.k_norm_size(), dq_norm.as<T>(),
             dk_norm.as<T>());
    }
    launch(rope_backward_kernel<T>, dim3(grid_extent(tokens, kMaxGridX)), token_block(shape),
           angle_bytes<T>(shape), ctx.stream, heads_of(shape), rope_frequencies_of(shape),
           dout.as<T>(), position, optional<T>(q_norm.empty() ? TensorView{} : qkv),
           optional<T>(q_norm), optional<T>(k_norm),
           optional<T>(q_norm.empty() ? TensorView{} : rstd), dqkv.as<T>());
  });
}

}  // namespace witan::ops::cuda
