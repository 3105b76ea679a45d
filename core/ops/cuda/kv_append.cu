// Appending to a cache on CUDA: every new row is read and written once, in the largest pieces that
// its length allows. The lengths travel to the stream's scratch.
#include "core/ops/cuda/kv_append.h"

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/lengths.h"
#include "core/ops/cuda/pieces.h"

namespace witan::ops::cuda {
namespace {

// The new rows of a sequence and the cache they go to.
struct Append {
  std::int64_t batch, seq_len, capacity;
};

// The row of a cache [batch, capacity, ..] that token `token` of [batch seq_len] goes to.
__device__ inline std::int64_t cache_row(const Append& append, const std::int32_t* lengths,
                                         std::int64_t token) {
  const std::int64_t sequence = token / append.seq_len;
  return sequence * append.capacity + lengths[sequence] - append.seq_len + token % append.seq_len;
}

// qkv [tokens, q_pieces + 2 kv_pieces] to q [tokens, q_pieces] and both caches [.., kv_pieces].
template <class Piece>
__global__ void kv_append_kernel(Append append, const std::int32_t* lengths, std::int64_t q_pieces,
                                 std::int64_t kv_pieces, const Piece* qkv, Piece* q, Piece* k_cache,
                                 Piece* v_cache) {
  const std::int64_t width = q_pieces + 2 * kv_pieces;
  const std::int64_t tokens = append.batch * append.seq_len;
  for (std::int64_t i = first_index(); i < tokens * width; i += index_stride()) {
    const std::int64_t token = i / width;
    const std::int64_t at = i % width;
    if (at < q_pieces) {
      q[token * q_pieces + at] = qkv[i];
      continue;
    }
    Piece* cache = at < q_pieces + kv_pieces ? k_cache : v_cache;
    cache[cache_row(append, lengths, token) * kv_pieces + (at - q_pieces) % kv_pieces] = qkv[i];
  }
}

// rows [tokens, pieces] to cache [.., pieces].
template <class Piece>
__global__ void cache_append_kernel(Append append, const std::int32_t* lengths, std::int64_t pieces,
                                    const Piece* rows, Piece* cache) {
  const std::int64_t tokens = append.batch * append.seq_len;
  for (std::int64_t i = first_index(); i < tokens * pieces; i += index_stride()) {
    cache[cache_row(append, lengths, i / pieces) * pieces + i % pieces] = rows[i];
  }
}

std::size_t bytes_of(std::int64_t elements, DType dtype) {
  return static_cast<std::size_t>(elements) * size_of(dtype);
}

}  // namespace

void kv_append(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& lengths, const TensorView& q, const TensorView& k_cache,
               const TensorView& v_cache) {
  if (qkv.size() == 0) return;
  const std::int32_t* length = lengths_on_device(ctx, lengths);
  const std::size_t q_bytes = bytes_of(q.cols(), qkv.dtype);
  const std::size_t kv_bytes = bytes_of(k_cache.shape[2], qkv.dtype);
  dispatch_piece(
      {q_bytes, kv_bytes}, {qkv.data, q.data, k_cache.data, v_cache.data}, [&](auto zero) {
        using Piece = decltype(zero);
        const auto q_pieces = static_cast<std::int64_t>(q_bytes / sizeof(Piece));
        const auto kv_pieces = static_cast<std::int64_t>(kv_bytes / sizeof(Piece));
        launch(kv_append_kernel<Piece>, flat_grid(qkv.rows() * (q_pieces + 2 * kv_pieces)),
               dim3(kFlatThreads), 0, ctx.stream,
               Append{shape.batch, shape.seq_len, k_cache.shape[1]}, length, q_pieces, kv_pieces,
               static_cast<const Piece*>(qkv.data), static_cast<Piece*>(q.data),
               static_cast<Piece*>(k_cache.data), static_cast<Piece*>(v_cache.data));
      });
}

void cache_append(const Context& ctx, const TensorView& rows, const TensorView& lengths,
                  const TensorView& cache) {
  if (rows.size() == 0) return;
  const std::int64_t batch = cache.shape[0];
  const std::int32_t* length = lengths_on_device(ctx, lengths);
  const std::size_t bytes = bytes_of(rows.cols(), rows.dtype);
  dispatch_piece({bytes}, {rows.data, cache.data}, [&](auto zero) {
    using Piece = decltype(zero);
    const auto pieces = static_cast<std::int64_t>(bytes / sizeof(Piece));
    launch(cache_append_kernel<Piece>, flat_grid(rows.rows() * pieces), dim3(kFlatThreads), 0,
           ctx.stream, Append{batch, rows.rows() / batch, cache.shape[1]}, length, pieces,
           static_cast<const Piece*>(rows.data), static_cast<Piece*>(cache.data));
  });
}

}  // namespace witan::ops::cuda
