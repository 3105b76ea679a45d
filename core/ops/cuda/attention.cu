// Attention on CUDA: which kernels run, and on which rows.
#include "core/ops/cuda/attention.h"

#include <cstdint>
#include <type_traits>

#include "core/ops/cuda/attention_choice.h"
#include "core/ops/cuda/attention_layout.h"
#include "core/ops/cuda/attention_mma.h"
#include "core/ops/cuda/attention_plain.h"
#include "core/ops/cuda/lengths.h"

namespace witan::ops::cuda {
namespace {

bool on_tensor_cores(const Context& ctx, DType dtype, const AttentionShape& shape) {
  return choose_attention_kernels(ctx.products, dtype, shape) == AttentionKernels::kTensorCores;
}

}  // namespace

void attention(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& first_key, const TensorView& out, const TensorView& lse) {
  if (lse.size() == 0) return;
  if (on_tensor_cores(ctx, qkv.dtype, shape)) {
    return attention_mma(ctx, shape, qkv.as<float>(), first_key.as<std::int32_t>(), out.as<float>(),
                         lse.as<float>());
  }
  dispatch_float(qkv.dtype, "attention", [&](auto zero) {
    using T = decltype(zero);
    const T* q = qkv.as<T>();
    attention_plain<T>(ctx, joined_layout(shape), shape.batch, q, keys_of(shape, q),
                       values_of(shape, q), first_key.as<std::int32_t>(), out.as<T>(), lse.as<T>());
  });
}

void attention_backward(const Context& ctx, const AttentionShape& shape, const TensorView& dout,
                        const TensorView& qkv, const TensorView& first_key, const TensorView& out,
                        const TensorView& lse, const TensorView& workspace_delta,
                        const TensorView& dqkv) {
  if (lse.size() == 0) return;
  dispatch_float(qkv.dtype, "attention_backward", [&](auto zero) {
    using T = decltype(zero);
    const T* q = qkv.as<T>();
    const auto* first = first_key.as<std::int32_t>();
    T* delta = workspace_delta.as<T>();
    T* dq = dqkv.as<T>();
    attention_delta<T>(ctx, dout.as<T>(), out.as<T>(), lse.size(), shape.value_dim(), delta);
    if constexpr (std::is_same_v<T, float>) {
      if (on_tensor_cores(ctx, qkv.dtype, shape)) {
        return attention_backward_mma(ctx, shape, dout.as<T>(), q, first, lse.as<T>(), delta, dq);
      }
    }
    attention_backward_plain<T>(ctx, joined_layout(shape), shape.batch, dout.as<T>(), q,
                                keys_of(shape, q), values_of(shape, q), first, lse.as<T>(), delta,
                                dq, keys_of(shape, dq), values_of(shape, dq));
  });
}

void attention_cached(const Context& ctx, const AttentionShape& shape, const TensorView& q,
                      const TensorView& k_cache, const TensorView& v_cache,
                      const TensorView& lengths, const TensorView& out) {
  if (out.size() == 0) return;
  const std::int64_t capacity = k_cache.shape[1];
  const std::int64_t q_row = shape.heads * shape.head_dim;
  const std::int64_t k_row = shape.kv_heads * shape.head_dim;
  const bool joined = v_cache.empty();  // a key is its own value
  const std::int64_t v_row = joined ? k_row : shape.kv_heads * shape.value_dim();
  const AttentionLayout layout = {.queries = shape.seq_len,
                                  .heads = shape.heads,
                                  .group = shape.heads / shape.kv_heads,
                                  .head_dim = shape.head_dim,
                                  .v_dim = shape.value_dim(),
                                  .v_head = joined ? shape.head_dim : shape.value_dim(),
                                  .q_row = q_row,
                                  .q_sequence = shape.seq_len * q_row,
                                  .k_row = k_row,
                                  .k_sequence = capacity * k_row,
                                  .v_row = v_row,
                                  .v_sequence = capacity * v_row,
                                  .scale = shape.scale};
  const std::int32_t* length = lengths_on_device(ctx, lengths);
  dispatch_float(q.dtype, "attention_cached", [&](auto zero) {
    using T = decltype(zero);
    attention_cached_plain<T>(ctx, layout, shape.batch, q.as<T>(), k_cache.as<T>(),
                              joined ? k_cache.as<T>() : v_cache.as<T>(), length, shape.window,
                              out.as<T>());
  });
}

}  // namespace witan::ops::cuda
