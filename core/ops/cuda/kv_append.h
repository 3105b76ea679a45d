// The CUDA twins of kv_append.h; operands and lengths have been checked by kv_append.cc.
#pragma once

#include "core/base/context.h"
#include "core/ops/attention.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void kv_append(const Context& ctx, const AttentionShape& shape, const TensorView& qkv,
               const TensorView& lengths, const TensorView& q, const TensorView& k_cache,
               const TensorView& v_cache);

void cache_append(const Context& ctx, const TensorView& rows, const TensorView& lengths,
                  const TensorView& cache);

}  // namespace witan::ops::cuda
