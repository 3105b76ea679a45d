// The heads of latent attention on CUDA: traffic only. Each kernel reads and writes every element
// once, but for the key parts that all heads share, which are read (forward) or summed (backward)
// once a head.
#include "core/ops/cuda/latent_heads.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"
#include "core/ops/cuda/rope_angles.h"

namespace witan::ops::cuda {
namespace {

constexpr std::int64_t kMostRotateThreads = 256;

// x [tokens, width] in place; one block a token. Shared: 2 pairs of T.
template <class T>
__global__ void rotate_heads_kernel(RopeFrequencies frequencies, const std::int32_t* positions,
                                    std::int64_t width, std::int64_t begin, std::int64_t count,
                                    std::int64_t stride, bool interleaved, T direction, T* x) {
  T* cos_sin = dynamic_shared<T>();
  const std::int64_t token = blockIdx.x;
  write_angles(frequencies, positions[token], cos_sin);
  __syncthreads();
  const std::int64_t half = frequencies.pairs;
  const std::int64_t step = interleaved ? 2 : 1;
  const std::int64_t apart = interleaved ? 1 : half;
  T* row = x + token * width + begin;
  for (std::int64_t i = threadIdx.x; i < count * half; i += blockDim.x) {
    const std::int64_t pair = i % half;
    T* first = row + i / half * stride + pair * step;
    const T cosine = cos_sin[pair];
    const T sine = direction * cos_sin[half + pair];
    const T a = first[0];
    const T b = first[apart];
    first[0] = a * cosine - b * sine;
    first[apart] = b * cosine + a * sine;
  }
}

// Widths in pieces. Rows: q [heads (nope + rope)], kv [heads (nope + v)], k_rope [rope],
// qkv [heads (nope + rope) | heads (nope + rope) | heads v].
struct Widths {
  std::int64_t heads, nope, rope, v;

  __device__ std::int64_t q() const { return heads * (nope + rope); }
  __device__ std::int64_t kv() const { return heads * (nope + v); }
  __device__ std::int64_t qkv() const { return 2 * q() + heads * v; }
};

template <class Piece>
__global__ void join_latent_heads_kernel(Widths width, std::int64_t tokens, const Piece* q,
                                         const Piece* kv, const Piece* k_rope, Piece* qkv) {
  const std::int64_t qk = width.nope + width.rope;
  const std::int64_t from_kv = width.nope + width.v;
  for (std::int64_t i = first_index(); i < tokens * width.qkv(); i += index_stride()) {
    const std::int64_t token = i / width.qkv();
    std::int64_t at = i % width.qkv();
    if (at < width.q()) {
      qkv[i] = q[token * width.q() + at];
      continue;
    }
    at -= width.q();
    if (at < width.q()) {
      const std::int64_t within = at % qk;
      qkv[i] = within < width.nope ? kv[token * width.kv() + at / qk * from_kv + within]
                                   : k_rope[token * width.rope + within - width.nope];
      continue;
    }
    at -= width.q();
    qkv[i] = kv[token * width.kv() + at / width.v * from_kv + width.nope + at % width.v];
  }
}

// dq and dkv of every token, by pieces.
template <class Piece>
__global__ void split_latent_heads_kernel(Widths width, std::int64_t tokens, const Piece* dqkv,
                                          Piece* dq, Piece* dkv) {
  const std::int64_t qk = width.nope + width.rope;
  const std::int64_t to_kv = width.nope + width.v;
  const std::int64_t written = width.q() + width.kv();
  for (std::int64_t i = first_index(); i < tokens * written; i += index_stride()) {
    const std::int64_t token = i / written;
    std::int64_t at = i % written;
    const Piece* row = dqkv + token * width.qkv();
    if (at < width.q()) {
      dq[token * width.q() + at] = row[at];
      continue;
    }
    at -= width.q();
    const std::int64_t head = at / to_kv;
    const std::int64_t within = at % to_kv;
    dkv[token * width.kv() + at] = within < width.nope
                                       ? row[width.q() + head * qk + within]
                                       : row[2 * width.q() + head * width.v + within - width.nope];
  }
}

// dk_rope [tokens, rope]: the sum over the heads, ascending. Widths in elements.
template <class T>
__global__ void sum_shared_keys_kernel(Widths width, std::int64_t tokens, const T* dqkv,
                                       T* dk_rope) {
  for (std::int64_t i = first_index(); i < tokens * width.rope; i += index_stride()) {
    const T* key = dqkv + i / width.rope * width.qkv() + width.q() + width.nope + i % width.rope;
    T sum = 0;
    for (std::int64_t h = 0; h < width.heads; ++h) sum += key[h * (width.nope + width.rope)];
    dk_rope[i] = sum;
  }
}

Widths widths_of(const LatentShape& shape, std::int64_t elements) {
  return {shape.heads, shape.nope_dim / elements, shape.rope_dim / elements,
          shape.v_dim / elements};
}

// f(Piece{}, elements of a piece) with the largest piece that divides every part of a head; no less
// than an element, which divides them all.
template <class F>
void dispatch_parts(const LatentShape& shape, DType dtype,
                    std::initializer_list<const void*> addresses, F&& f) {
  const std::size_t element = size_of(dtype);
  const auto bytes = [&](std::int64_t count) { return static_cast<std::size_t>(count) * element; };
  dispatch_piece({bytes(shape.nope_dim), bytes(shape.rope_dim), bytes(shape.v_dim)}, addresses,
                 [&](auto piece) { f(piece, static_cast<std::int64_t>(sizeof(piece) / element)); });
}

}  // namespace

void rotate_heads(const Context& ctx, const LatentShape& shape, const TensorView& x,
                  std::int64_t begin, std::int64_t count, std::int64_t stride,
                  const TensorView& positions, Rotation rotation) {
  if (x.rows() == 0) return;
  const RopeFrequencies frequencies = frequencies_of(shape.theta, shape.rope_dim, shape.scaling);
  dispatch_float(x.dtype, "rotate_heads", [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t threads =
        std::min(kMostRotateThreads, blocks_of(count * shape.rope_dim / 2, 32) * 32);
    launch(rotate_heads_kernel<T>, dim3(grid_extent(x.rows(), kMaxGridX)),
           dim3(static_cast<unsigned>(threads)),
           static_cast<std::size_t>(shape.rope_dim) * sizeof(T), ctx.stream, frequencies,
           positions.as<std::int32_t>(), x.cols(), begin, count, stride, shape.interleaved,
           rotation == Rotation::kForward ? T{1} : T{-1}, x.as<T>());
  });
}

void join_latent_heads(const Context& ctx, const LatentShape& shape, const TensorView& q,
                       const TensorView& kv, const TensorView& k_rope, const TensorView& qkv) {
  if (qkv.size() == 0) return;
  dispatch_parts(shape, qkv.dtype, {q.data, kv.data, k_rope.data, qkv.data},
                 [&](auto zero, std::int64_t elements) {
                   using Piece = decltype(zero);
                   launch(join_latent_heads_kernel<Piece>, flat_grid(qkv.size() / elements),
                          dim3(kFlatThreads), 0, ctx.stream, widths_of(shape, elements), qkv.rows(),
                          static_cast<const Piece*>(q.data), static_cast<const Piece*>(kv.data),
                          static_cast<const Piece*>(k_rope.data), static_cast<Piece*>(qkv.data));
                 });
}

void join_latent_heads_backward(const Context& ctx, const LatentShape& shape,
                                const TensorView& dqkv, const TensorView& dq, const TensorView& dkv,
                                const TensorView& dk_rope) {
  if (dqkv.size() == 0) return;
  const std::int64_t written = dq.size() + dkv.size();
  dispatch_parts(shape, dqkv.dtype, {dqkv.data, dq.data, dkv.data},
                 [&](auto zero, std::int64_t elements) {
                   using Piece = decltype(zero);
                   launch(split_latent_heads_kernel<Piece>, flat_grid(written / elements),
                          dim3(kFlatThreads), 0, ctx.stream, widths_of(shape, elements),
                          dqkv.rows(), static_cast<const Piece*>(dqkv.data),
                          static_cast<Piece*>(dq.data), static_cast<Piece*>(dkv.data));
                 });
  dispatch_float(dqkv.dtype, "join_latent_heads_backward", [&](auto zero) {
    using T = decltype(zero);
    launch(sum_shared_keys_kernel<T>, flat_grid(dk_rope.size()), dim3(kFlatThreads), 0, ctx.stream,
           widths_of(shape, 1), dqkv.rows(), dqkv.as<T>(), dk_rope.as<T>());
  });
}

}  // namespace witan::ops::cuda
