#include "core/ops/kv_append.h"

#include <cstring>

#include "core/ops/cuda/kv_append.h"
#include "core/ops/dispatch.h"

namespace witan::ops {
namespace {

void check_lengths(const char* op, const TensorView& lengths, std::int64_t batch,
                   std::int64_t seq_len, std::int64_t capacity) {
  check_operand(Context{}, op, "lengths", lengths, DType::kInt32, {batch});
  const auto* length = lengths.as<std::int32_t>();
  for (std::int64_t b = 0; b < batch; ++b) {
    WITAN_CHECK(length[b] >= seq_len && length[b] <= capacity, "kv cache: ", length[b],
                " tokens in a cache of ", capacity);
  }
}

}  // namespace

void kv_append(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& lengths, const TensorView& q, const TensorView& k_cache,
               const TensorView& v_cache) {
  const char* op = "kv_append";
  const std::int64_t tokens = shape.batch * shape.seq_len;
  const std::int64_t q_width = shape.heads * shape.head_dim;
  const std::int64_t kv_width = shape.kv_heads * shape.head_dim;
  check_float(op, "qkv", qkv, 2);
  check_float(op, "k_cache", k_cache, 3);
  const std::int64_t capacity = k_cache.shape[1];
  check_operand(ctx, op, "qkv", qkv, qkv.dtype, {tokens, q_width + 2 * kv_width});
  check_operand(ctx, op, "q", q, qkv.dtype, {tokens, q_width});
  check_operand(ctx, op, "k_cache", k_cache, qkv.dtype, {shape.batch, capacity, kv_width});
  check_operand(ctx, op, "v_cache", v_cache, qkv.dtype, {shape.batch, capacity, kv_width});
  check_lengths(op, lengths, shape.batch, shape.seq_len, capacity);
  if (ctx.device.is_cuda()) return cuda::kv_append(ctx, shape, qkv, lengths, q, k_cache, v_cache);
  const std::size_t element = size_of(qkv.dtype);
  const std::size_t q_bytes = static_cast<std::size_t>(q_width) * element;
  const std::size_t kv_bytes = static_cast<std::size_t>(kv_width) * element;
  const auto* from = static_cast<const std::byte*>(qkv.data);
  auto* queries = static_cast<std::byte*>(q.data);
  auto* keys = static_cast<std::byte*>(k_cache.data);
  auto* values = static_cast<std::byte*>(v_cache.data);
  const std::int32_t* length = lengths.as<std::int32_t>();
  for (std::int64_t b = 0; b < shape.batch; ++b) {
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
  const char* op = "cache_append";
  check_float(op, "cache", cache, 3);
  const std::int64_t batch = cache.shape[0];
  const std::int64_t capacity = cache.shape[1];
  if (batch == 0) return;
  check_operand(ctx, op, "rows", rows, cache.dtype, {rows.rows(), cache.shape[2]});
  check_operand(ctx, op, "cache", cache, cache.dtype, cache.shape);
  WITAN_CHECK(rows.rows() % batch == 0, op, ": ", rows.rows(), " rows for ", batch, " sequences");
  const std::int64_t seq_len = rows.rows() / batch;
  check_lengths(op, lengths, batch, seq_len, capacity);
  if (ctx.device.is_cuda()) return cuda::cache_append(ctx, rows, lengths, cache);
  const std::size_t bytes = static_cast<std::size_t>(rows.cols()) * size_of(rows.dtype);
  const auto* from = static_cast<const std::byte*>(rows.data);
  auto* to = static_cast<std::byte*>(cache.data);
  const auto* length = lengths.as<std::int32_t>();
  const std::size_t sequence = static_cast<std::size_t>(seq_len) * bytes;
  for (std::int64_t b = 0; b < batch; ++b, from += sequence) {
    std::memcpy(to + static_cast<std::size_t>(b * capacity + length[b] - seq_len) * bytes, from,
                sequence);
  }
}

}  // namespace witan::ops
