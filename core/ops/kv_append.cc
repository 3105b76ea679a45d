#include "core/ops/kv_append.h"

#include <cstring>

#include "core/base/error.h"

namespace witan::ops {

void kv_append(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& lengths, const TensorView& q, const TensorView& k_cache,
               const TensorView& v_cache) {
  WITAN_CHECK(ctx.device.is_cpu(), "kv_append: expected CPU tensors");
  const std::size_t element = size_of(qkv.dtype);
  const std::size_t q_bytes = static_cast<std::size_t>(shape.heads * shape.head_dim) * element;
  const std::size_t kv_bytes = static_cast<std::size_t>(shape.kv_heads * shape.head_dim) * element;
  const std::int64_t capacity = k_cache.shape[1];
  const auto* from = static_cast<const std::byte*>(qkv.data);
  auto* queries = static_cast<std::byte*>(q.data);
  auto* keys = static_cast<std::byte*>(k_cache.data);
  auto* values = static_cast<std::byte*>(v_cache.data);
  const std::int32_t* length = lengths.as<std::int32_t>();
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    WITAN_CHECK(length[b] >= shape.seq_len && length[b] <= capacity, "kv cache: ", length[b],
                " tokens in a cache of ", capacity);
    for (std::int64_t i = 0; i < shape.seq_len; ++i) {
      const auto row = static_cast<std::size_t>(b * capacity + length[b] - shape.seq_len + i);
      std::memcpy(queries, from, q_bytes);
      std::memcpy(keys + row * kv_bytes, from + q_bytes, kv_bytes);
      std::memcpy(values + row * kv_bytes, from + q_bytes + kv_bytes, kv_bytes);
      queries += q_bytes;
      from += q_bytes + 2 * kv_bytes;
    }
  }
}

void cache_append(const Context& ctx, const TensorView& rows, const TensorView& lengths,
                  const TensorView& cache) {
  WITAN_CHECK(ctx.device.is_cpu(), "cache_append: expected CPU tensors");
  const std::int64_t batch = cache.shape[0];
  const std::int64_t capacity = cache.shape[1];
  if (batch == 0) return;
  WITAN_CHECK(
      rows.cols() == cache.shape[2] && rows.dtype == cache.dtype && rows.rows() % batch == 0,
      "cache_append: ", rows.shape.to_string(), " to ", cache.shape.to_string());
  const std::int64_t seq_len = rows.rows() / batch;
  const std::size_t bytes = static_cast<std::size_t>(rows.cols()) * size_of(rows.dtype);
  const auto* from = static_cast<const std::byte*>(rows.data);
  auto* to = static_cast<std::byte*>(cache.data);
  const auto* length = lengths.as<std::int32_t>();
  const std::size_t sequence = static_cast<std::size_t>(seq_len) * bytes;
  for (std::int64_t b = 0; b < batch; ++b, from += sequence) {
    WITAN_CHECK(length[b] >= seq_len && length[b] <= capacity, "kv cache: ", length[b],
                " tokens in a cache of ", capacity);
    std::memcpy(to + static_cast<std::size_t>(b * capacity + length[b] - seq_len) * bytes, from,
                sequence);
  }
}

}  // namespace witan::ops
