// Which of the two sets of kernels of attention runs.
#pragma once

#include "core/base/context.h"
#include "core/base/dtype.h"
#include "core/ops/attention.h"

namespace witan::ops::cuda {

enum class AttentionKernels {
  kPlain,        // any dtype, head_dim and v_dim; operands rounded as ctx.products says
  kTensorCores,  // bfloat16 products of float32 tensors
};

// A pure function of how products are computed, the dtype and the shape. The tensor cores take
// heads of whole 16 elements, up to 256.
inline AttentionKernels choose_attention_kernels(Products products, DType dtype,
                                                 const AttentionShape& shape) {
  const auto fits = [](std::int64_t dim) { return dim % 16 == 0 && dim <= 256; };
  return products == Products::kBfloat16 && dtype == DType::kFloat32 && fits(shape.head_dim) &&
                 fits(shape.value_dim())
             ? AttentionKernels::kTensorCores
             : AttentionKernels::kPlain;
}

}  // namespace witan::ops::cuda
