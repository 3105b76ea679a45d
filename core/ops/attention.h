// Causal multi-head / grouped-query attention, tiled with online softmax (Dao et al. 2022): no
// [seq, seq] matrix per head is ever stored, neither forward nor backward. float32 or float64.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

struct AttentionShape {
  std::int64_t batch = 0;
  std::int64_t seq_len = 0;  // queries per sequence
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  std::int64_t head_dim = 0;
  double scale = 0.0;      // usually 1 / sqrt(head_dim)
  std::int64_t v_dim = 0;  // elements of a value head; 0: head_dim
  // attention_cached only: keys that a query sees, its own included; 0: all. (Elsewhere first_key
  // says.)
  std::int64_t window = 0;

  std::int64_t value_dim() const { return v_dim > 0 ? v_dim : head_dim; }
};

// qkv [batch seq_len, (heads + kv_heads) head_dim + kv_heads v_dim], after RoPE. first_key [batch
// seq_len] int32: the first position of its own sequence that a token may see (0, or the beginning
// of its document); token t sees keys first_key[t] .. t. out [batch seq_len, heads v_dim]; lse
// [batch seq_len, heads] (log of the sum of exponentials) for the backward.
void attention(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& first_key, const TensorView& out, const TensorView& lse);

// dqkv is overwritten. `workspace_delta` [batch seq_len, heads] is scratch (rowsum of dout * out).
// Deterministic: no atomics, each gradient element is summed in one fixed order.
void attention_backward(const Context& ctx, const AttentionShape& shape, const TensorView& dout,
                        const TensorView& qkv, const TensorView& first_key, const TensorView& out,
                        const TensorView& lse, const TensorView& workspace_delta,
                        const TensorView& dqkv);

// Decoding with a cache: new queries of each sequence against all its cached keys. q [batch
// seq_len, heads head_dim]; k_cache [batch, capacity, kv_heads head_dim], v_cache [batch, capacity,
// kv_heads v_dim], of which the first lengths[b] (host int32, the new tokens included) are valid;
// query i of sequence b stands at position lengths[b] - seq_len + i and sees the newest
// shape.window keys up to there. out [batch seq_len, heads v_dim]. An empty v_cache: the value of a
// key is its own first v_dim elements (latent attention).
void attention_cached(const Context& ctx, const AttentionShape& shape, const TensorView& q,
                      const TensorView& k_cache, const TensorView& v_cache,
                      const TensorView& lengths, const TensorView& out);

}  // namespace witan::ops
