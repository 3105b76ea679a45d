// Multi-head latent attention (DeepSeek-V2, Liu et al. 2024) between its projections and
// ops::attention: a query head is [nope | rope], a key head [nope of its own | rope shared by all
// heads], a value head has a width of its own; only the rope parts are rotated.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/ops/rope_scaling.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

struct LatentShape {
  std::int64_t heads = 0;
  std::int64_t nope_dim = 0;
  std::int64_t rope_dim = 0;  // even
  std::int64_t v_dim = 0;
  bool interleaved = true;  // pairs (2 i, 2 i + 1), else (i, i + rope_dim / 2)
  double theta = 10000.0;
  RopeScaling scaling = {};

  std::int64_t qk_dim() const { return nope_dim + rope_dim; }
};

enum class Rotation { kForward, kBack };  // by the angle of the position, or by minus that angle

// In place: the rope_dim elements of x [tokens, cols] from column `begin` on, and of the `count`
// heads that stand `stride` columns apart. positions [tokens] int32. The backward is kBack.
void rotate_heads(const Context& ctx, const LatentShape& shape, const TensorView& x,
                  std::int64_t begin, std::int64_t count, std::int64_t stride,
                  const TensorView& positions, Rotation rotation);

// qkv [tokens, heads (2 qk_dim + v_dim)] as ops::attention reads it, from q [tokens, heads qk_dim],
// kv [tokens, heads (nope_dim + v_dim)] and k_rope [tokens, rope_dim], both rotated.
void join_latent_heads(const Context& ctx, const LatentShape& shape, const TensorView& q,
                       const TensorView& kv, const TensorView& k_rope, const TensorView& qkv);

// The gradients of those; dq, dkv, dk_rope are overwritten. dk_rope is the sum over the heads,
// ascending.
void join_latent_heads_backward(const Context& ctx, const LatentShape& shape,
                                const TensorView& dqkv, const TensorView& dq, const TensorView& dkv,
                                const TensorView& dk_rope);

}  // namespace witan::ops
