// Rotary position embedding (Su et al. 2021) in the "rotate half" layout of Llama and Mixtral in
// `transformers`: element i of the first half of a head is paired with element i of the second
// half; angle = position * frequency of i (rope_scaling.h). An optional RMSNorm of queries and keys
// (qk-norm) comes before it: of every head (weights [head_dim], shared by the heads), or of all
// heads of a token together (weights [heads head_dim] and [kv_heads head_dim]; OLMoE).
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/ops/rope_scaling.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

struct RopeShape {
  std::int64_t heads = 0;     // query heads
  std::int64_t kv_heads = 0;  // key heads; the value heads pass through
  std::int64_t head_dim = 0;  // even
  double theta = 10000.0;
  double qk_norm_eps = 1e-6;
  RopeScaling scaling = {};
  bool norm_whole = false;  // qk-norm of all heads together

  // Weights of the norm, and values of rstd per token.
  std::int64_t q_norm_size() const { return norm_whole ? heads * head_dim : head_dim; }
  std::int64_t k_norm_size() const { return norm_whole ? kv_heads * head_dim : head_dim; }
  std::int64_t norms() const { return norm_whole ? 2 : heads + kv_heads; }
};

// qkv [tokens, (heads + 2 kv_heads) head_dim]: queries, keys, values. positions [tokens] int32.
// out, of the same shape, receives the normed and rotated queries and keys and the values as they
// are. out may alias qkv only without qk-norm. q_norm, k_norm (q_norm_size() and k_norm_size()
// weights) both or neither; then rstd [tokens, norms()] is written.
void rope(const Context& ctx, const RopeShape& shape, const TensorView& qkv,
          const TensorView& positions, const TensorView& q_norm, const TensorView& k_norm,
          const TensorView& out, const TensorView& rstd);

// dqkv is overwritten from dout (may alias); dq_norm, dk_norm accumulate. `qkv` (the forward's
// input) and rstd are read only with qk-norm.
void rope_backward(const Context& ctx, const RopeShape& shape, const TensorView& dout,
                   const TensorView& positions, const TensorView& qkv, const TensorView& q_norm,
                   const TensorView& k_norm, const TensorView& rstd, const TensorView& dqkv,
                   const TensorView& dq_norm, const TensorView& dk_norm);

}  // namespace witan::ops
