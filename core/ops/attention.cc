#include "core/ops/attention.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "core/ops/cpu/attention_amx_kernels.h"
#include "core/ops/cpu/attention_kernels.h"
#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/attention.h"
#include "core/ops/dispatch.h"
#include "core/ops/gemm_kernel.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

// From so many queries on, packing the keys of a cache pays.
constexpr std::int64_t kFewQueries = 8;

// f(index) for every head, or group of heads, of every sequence; on this thread alone if the whole
// op is too small to share out.
template <class F>
void for_each_head(std::int64_t count, std::int64_t products, const F& f) {
  constexpr std::int64_t kFewProducts = 1 << 18;
  if (products < kFewProducts) {
    for (std::int64_t index = 0; index < count; ++index) f(index);
  } else {
    parallel_for_dynamic(count, f);
  }
}

// How the products of a head are made.
enum class Tiles { kFull, kRounded, kAmx };

Tiles tiles_of(const Context& ctx, DType dtype, double scale) {
  if (ctx.products == Products::kFull || dtype != DType::kFloat32) return Tiles::kFull;
  return bf16_gemm_kernel() == GemmKernel::kBf16Amx && scale > 0.0 ? Tiles::kAmx : Tiles::kRounded;
}

template <class T>
void forward_head(Tiles tiles, const cpu::AttentionHead<T>& head) {
  if constexpr (std::is_same_v<T, float>) {
    if (tiles == Tiles::kAmx) {
      return cpu::amx::attention_head(head, cpu::scratch_of<float>(cpu::attention_amx_workspace(
                                                head.keys, head.head_dim, head.v_dim)));
    }
  }
  T* workspace = cpu::scratch_of<T>(cpu::attention_workspace(head.keys, head.head_dim, head.v_dim));
  WITAN_CALL_ISA(attention_head<T>, head, workspace);
}

template <class T>
void backward_group(Tiles tiles, const cpu::AttentionGroup<T>& heads) {
  if constexpr (std::is_same_v<T, float>) {
    if (tiles == Tiles::kAmx) {
      return cpu::amx::attention_group_backward(
          heads, cpu::scratch_of<float>(cpu::attention_amx_backward_workspace(
                     heads.seq_len, heads.head_dim, heads.v_dim)));
    }
  }
  T* workspace = cpu::scratch_of<T>(
      cpu::attention_backward_workspace(heads.seq_len, heads.head_dim, heads.v_dim));
  WITAN_CALL_ISA(attention_group_backward<T>, heads, workspace);
}

std::int64_t qkv_width(const AttentionShape& shape) {
  return (shape.heads + shape.kv_heads) * shape.head_dim + shape.kv_heads * shape.value_dim();
}

void check_shape(const char* op, const AttentionShape& shape) {
  WITAN_CHECK(shape.heads > 0 && shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, op,
              ": kv_heads must divide heads, found heads ", shape.heads, " and kv_heads ",
              shape.kv_heads);
  WITAN_CHECK(shape.head_dim > 0, op, ": expected head_dim above 0, found ", shape.head_dim);
  WITAN_CHECK(shape.v_dim >= 0, op, ": expected v_dim from 0, found ", shape.v_dim);
  WITAN_CHECK(shape.window >= 0, op, ": expected a window from 0, found ", shape.window);
}

// Every token sees at least itself, and nothing outside of its sequence.
void check_first_key(const Context& ctx, const char* op, const AttentionShape& shape,
                     const TensorView& first_key) {
  const std::int64_t tokens = shape.batch * shape.seq_len;
  check_operand(ctx, op, "first_key", first_key, DType::kInt32, {tokens});
  if (!ctx.device.is_cpu()) return;
  const auto* first = first_key.as<std::int32_t>();
  for (std::int64_t t = 0; t < tokens; ++t) {
    WITAN_CHECK(first[t] >= 0 && first[t] <= t % shape.seq_len, op, ": first_key[", t, "] is ",
                first[t], ", expected 0 .. ", t % shape.seq_len, ", its position");
  }
}

// Operands of the forward that the backward reads again.
void check_saved(const Context& ctx, const char* op, const AttentionShape& shape,
                 const TensorView& qkv, const TensorView& first_key, const TensorView& out,
                 const TensorView& lse) {
  const std::int64_t tokens = shape.batch * shape.seq_len;
  check_shape(op, shape);
  check_float(op, "qkv", qkv, 2);
  check_operand(ctx, op, "qkv", qkv, qkv.dtype, {tokens, qkv_width(shape)});
  check_operand(ctx, op, "out", out, qkv.dtype, {tokens, shape.heads * shape.value_dim()});
  check_operand(ctx, op, "lse", lse, qkv.dtype, {tokens, shape.heads});
  check_first_key(ctx, op, shape, first_key);
}

template <class T>
void forward_cpu(const AttentionShape& shape, Tiles tiles, const T* qkv,
                 const std::int32_t* first_key, T* out, T* lse) {
  const std::int64_t width = qkv_width(shape);
  const std::int64_t d = shape.head_dim;
  const std::int64_t dv = shape.value_dim();
  const std::int64_t group = shape.heads / shape.kv_heads;
  const std::int64_t products = shape.batch * shape.heads * shape.seq_len * shape.seq_len * d;
  for_each_head(shape.batch * shape.heads, products, [&](std::int64_t index) {
    const std::int64_t token = index / shape.heads * shape.seq_len;
    const std::int64_t h = index % shape.heads;
    const T* row = qkv + token * width;
    const std::int64_t kv = h / group;
    const cpu::AttentionHead<T> head = {
        .q = {row + h * d, width},
        .k = {row + (shape.heads + kv) * d, width},
        .v = {row + (shape.heads + shape.kv_heads) * d + kv * dv, width},
        .out = {out + (token * shape.heads + h) * dv, shape.heads * dv},
        .lse = {lse + token * shape.heads + h, shape.heads},
        .first_key = first_key + token,
        .queries = shape.seq_len,
        .keys = shape.seq_len,
        .head_dim = d,
        .v_dim = dv,
        .scale = static_cast<T>(shape.scale),
        .rounded = tiles != Tiles::kFull};
    forward_head(tiles, head);
  });
}

template <class T>
void backward_cpu(const AttentionShape& shape, Tiles tiles, const T* dout, const T* qkv,
                  const std::int32_t* first_key, const T* lse, const T* delta, T* dqkv) {
  const std::int64_t width = qkv_width(shape);
  const std::int64_t d = shape.head_dim;
  const std::int64_t dv = shape.value_dim();
  const std::int64_t group = shape.heads / shape.kv_heads;
  const std::int64_t products = shape.batch * shape.heads * shape.seq_len * shape.seq_len * d;
  for_each_head(shape.batch * shape.kv_heads, products, [&](std::int64_t index) {
    const std::int64_t token = index / shape.kv_heads * shape.seq_len;
    const std::int64_t kv = index % shape.kv_heads;
    const std::int64_t h = kv * group;
    const std::int64_t row = token * width;
    const std::int64_t k_at = row + (shape.heads + kv) * d;
    const std::int64_t v_at = row + (shape.heads + shape.kv_heads) * d + kv * dv;
    const cpu::AttentionGroup<T> heads = {
        .q = {qkv + row + h * d, width},
        .k = {qkv + k_at, width},
        .v = {qkv + v_at, width},
        .dout = {dout + (token * shape.heads + h) * dv, shape.heads * dv},
        .lse = {lse + token * shape.heads + h, shape.heads},
        .delta = {delta + token * shape.heads + h, shape.heads},
        .dq = {dqkv + row + h * d, width},
        .dk = {dqkv + k_at, width},
        .dv = {dqkv + v_at, width},
        .first_key = first_key + token,
        .group = group,
        .seq_len = shape.seq_len,
        .head_dim = d,
        .v_dim = dv,
        .scale = static_cast<T>(shape.scale),
        .rounded = tiles != Tiles::kFull};
    backward_group(tiles, heads);
  });
}

// Of every query, the first key in its window: [batch seq_len]; empty without a window.
std::vector<std::int32_t> window_begins(const AttentionShape& shape, const std::int32_t* lengths) {
  std::vector<std::int32_t> begins;
  for (std::int64_t i = 0; shape.window > 0 && i < shape.batch * shape.seq_len; ++i) {
    const std::int64_t position = lengths[i / shape.seq_len] - shape.seq_len + i % shape.seq_len;
    begins.push_back(
        static_cast<std::int32_t>(std::max<std::int64_t>(position - shape.window + 1, 0)));
  }
  return begins;
}

// v_cache may be null: see attention_cached().
template <class T>
void cached_cpu(const AttentionShape& shape, const T* q, const T* k_cache, const T* v_cache,
                std::int64_t capacity, const std::int32_t* lengths, T* out) {
  const std::vector<std::int32_t> first_key = window_begins(shape, lengths);
  const std::int64_t d = shape.head_dim;
  const std::int64_t dv = shape.value_dim();
  const std::int64_t group = shape.heads / shape.kv_heads;
  const std::int64_t products = shape.batch * shape.heads * shape.seq_len * capacity * d;
  for_each_head(shape.batch * shape.heads, products, [&](std::int64_t index) {
    const std::int64_t b = index / shape.heads;
    const std::int64_t h = index % shape.heads;
    const std::int64_t query = b * shape.seq_len * shape.heads + h;
    const std::int64_t key = b * capacity * shape.kv_heads + h / group;
    const cpu::HeadRows<const T> keys = {k_cache + key * d, shape.kv_heads * d};
    const cpu::AttentionHead<T> head = {
        .q = {q + query * d, shape.heads * d},
        .k = keys,
        .v = v_cache == nullptr ? keys
                                : cpu::HeadRows<const T>{v_cache + key * dv, shape.kv_heads * dv},
        .out = {out + query * dv, shape.heads * dv},
        .lse = {nullptr, 0},
        .first_key = first_key.empty() ? nullptr : first_key.data() + b * shape.seq_len,
        .queries = shape.seq_len,
        .keys = lengths[b],
        .head_dim = d,
        .v_dim = dv,
        .scale = static_cast<T>(shape.scale),
        .rounded = false};
    if (shape.seq_len < kFewQueries) {
      WITAN_CALL_ISA(attention_few_queries<T>, head);
    } else {
      forward_head(Tiles::kFull, head);
    }
  });
}

}  // namespace

void attention(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& first_key, const TensorView& out, const TensorView& lse) {
  check_saved(ctx, "attention", shape, qkv, first_key, out, lse);
  if (ctx.device.is_cuda()) return cuda::attention(ctx, shape, qkv, first_key, out, lse);
  dispatch_float(qkv.dtype, "attention", [&](auto type) {
    using T = decltype(type);
    forward_cpu<T>(shape, tiles_of(ctx, qkv.dtype, shape.scale), qkv.as<T>(),
                   first_key.as<std::int32_t>(), out.as<T>(), lse.as<T>());
  });
}

void attention_backward(const Context& ctx, const AttentionShape& shape, const TensorView& dout,
                        const TensorView& qkv, const TensorView& first_key, const TensorView& out,
                        const TensorView& lse, const TensorView& workspace_delta,
                        const TensorView& dqkv) {
  const char* op = "attention_backward";
  check_saved(ctx, op, shape, qkv, first_key, out, lse);
  check_operand(ctx, op, "dout", dout, qkv.dtype, out.shape);
  check_operand(ctx, op, "workspace_delta", workspace_delta, qkv.dtype, lse.shape);
  check_operand(ctx, op, "dqkv", dqkv, qkv.dtype, qkv.shape);
  if (ctx.device.is_cuda()) {
    return cuda::attention_backward(ctx, shape, dout, qkv, first_key, out, lse, workspace_delta,
                                    dqkv);
  }
  const std::int64_t d = shape.value_dim();
  dispatch_float(qkv.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* grad = dout.as<T>();
    const T* result = out.as<T>();
    T* delta = workspace_delta.as<T>();
    parallel_ranges(lse.size(), 64, [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(attention_delta<T>, grad + begin * d, result + begin * d, delta + begin,
                     end - begin, d);
    });
    backward_cpu<T>(shape, tiles_of(ctx, qkv.dtype, shape.scale), grad, qkv.as<T>(),
                    first_key.as<std::int32_t>(), lse.as<T>(), delta, dqkv.as<T>());
  });
}

void attention_cached(const Context& ctx, const AttentionShape& shape, const TensorView& q,
                      const TensorView& k_cache, const TensorView& v_cache,
                      const TensorView& lengths, const TensorView& out) {
  const char* op = "attention_cached";
  check_shape(op, shape);
  check_float(op, "q", q, 2);
  check_operand(ctx, op, "q", q, q.dtype,
                {shape.batch * shape.seq_len, shape.heads * shape.head_dim});
  check_float(op, "k_cache", k_cache, 3);
  const std::int64_t capacity = k_cache.shape[1];
  check_operand(ctx, op, "k_cache", k_cache, q.dtype,
                {shape.batch, capacity, shape.kv_heads * shape.head_dim});
  if (v_cache.empty()) {
    WITAN_CHECK(shape.value_dim() <= shape.head_dim, op, ": v_dim ", shape.value_dim(),
                " of values within keys of ", shape.head_dim);
  } else {
    check_operand(ctx, op, "v_cache", v_cache, q.dtype,
                  {shape.batch, capacity, shape.kv_heads * shape.value_dim()});
  }
  check_operand(Context{}, op, "lengths", lengths, DType::kInt32, {shape.batch});
  check_operand(ctx, op, "out", out, q.dtype, {q.rows(), shape.heads * shape.value_dim()});
  const auto* length = lengths.as<std::int32_t>();
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    WITAN_CHECK(length[b] >= shape.seq_len && length[b] <= capacity, op, ": lengths[", b, "] is ",
                length[b], ", expected ", shape.seq_len, " (new tokens) .. ", capacity,
                " (capacity)");
  }
  if (ctx.device.is_cuda()) {
    return cuda::attention_cached(ctx, shape, q, k_cache, v_cache, lengths, out);
  }
  dispatch_float(q.dtype, op, [&](auto type) {
    using T = decltype(type);
    cached_cpu<T>(shape, q.as<T>(), k_cache.as<T>(), v_cache.empty() ? nullptr : v_cache.as<T>(),
                  capacity, length, out.as<T>());
  });
}

}  // namespace witan::ops
