// Attention in bfloat16 on the tensor cores (FlashAttention-2, Dao 2023, with a backward in two
// passes instead of atomics): float32 tensors, rounded to bfloat16 where products read them, sums
// in float32. Probabilities and the gradients of scores are rounded to bfloat16 as well before they
// are multiplied on. head_dim and v_dim: multiples of 16 up to 256. All pointers at multiples of 16
// bytes. Takes the stream's scratch. Waits for nothing.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/ops/attention.h"

namespace witan::ops::cuda {

void attention_mma(const Context& ctx, const AttentionShape& shape, const float* qkv,
                   const std::int32_t* first_key, float* out, float* lse);

// delta has been computed (attention_plain.h).
void attention_backward_mma(const Context& ctx, const AttentionShape& shape, const float* dout,
                            const float* qkv, const std::int32_t* first_key, const float* lse,
                            const float* delta, float* dqkv);

}  // namespace witan::ops::cuda
