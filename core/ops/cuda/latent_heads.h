// The CUDA twins of latent_heads.h; operands have been checked by latent_heads.cc.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/ops/latent_heads.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void rotate_heads(const Context& ctx, const LatentShape& shape, const TensorView& x,
                  std::int64_t begin, std::int64_t count, std::int64_t stride,
                  const TensorView& positions, Rotation rotation);

void join_latent_heads(const Context& ctx, const LatentShape& shape, const TensorView& q,
                       const TensorView& kv, const TensorView& k_rope, const TensorView& qkv);

void join_latent_heads_backward(const Context& ctx, const LatentShape& shape,
                                const TensorView& dqkv, const TensorView& dq, const TensorView& dkv,
                                const TensorView& dk_rope);

}  // namespace witan::ops::cuda
