// The CUDA twins of attention.h; operands have been checked by attention.cc.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/ops/attention.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void attention(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& first_key, const TensorView& out, const TensorView& lse);

void attention_backward(const Context& ctx, const AttentionShape& shape, const TensorView& dout,
                        const TensorView& qkv, const TensorView& first_key, const TensorView& out,
                        const TensorView& lse, const TensorView& workspace_delta,
                        const TensorView& dqkv);

void attention_cached(const Context& ctx, const AttentionShape& shape, const TensorView& q,
                      const TensorView& k_cache, const TensorView& v_cache,
                      const TensorView& lengths, const TensorView& out);

}  // namespace witan::ops::cuda
