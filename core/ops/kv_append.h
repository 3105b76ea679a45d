// Splits projected tokens for decoding: queries to a matrix of their own, keys and values to the
// end of the cache.
#pragma once

#include "core/base/context.h"
#include "core/ops/attention.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// qkv [batch seq_len, (heads + 2 kv_heads) head_dim]; lengths [batch] int32 (host): tokens of each
// sequence, the new ones included. q [batch seq_len, heads head_dim]; k_cache, v_cache [batch,
// capacity, kv_heads head_dim]: rows lengths[b] - seq_len + i are written.
void kv_append(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& lengths, const TensorView& q, const TensorView& k_cache,
               const TensorView& v_cache);

// The same for a cache of one kind of row (latent attention): rows [batch seq_len, width] to the
// end of cache [batch, capacity, width].
void cache_append(const Context& ctx, const TensorView& rows, const TensorView& lengths,
                  const TensorView& cache);

}  // namespace witan::ops
