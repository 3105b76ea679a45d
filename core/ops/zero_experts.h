// Experts without a matrix product (MoE++, Jin et al. 2024), of which a token's own rank computes
// whatever it chose:
//   zero      f(x) = 0
//   copy      f(x) = x
//   constant  f(x) = a x + b v with (a, b) = softmax(W x), W [2, d] and v [d] trained
// float32 or float64; sums over d in double.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// Their places among the choices: behind `first` experts of other kinds come so many of each, in
// this order.
struct ZeroExperts {
  std::int64_t first = 0;
  std::int64_t zero = 0;
  std::int64_t copy = 0;
  std::int64_t constant = 0;
};

// Of the constant ones; empty where there are none.
struct ConstantExperts {
  TensorView mix, vector;  // W [2 constant, d], v [constant, d]
};

// y_t += sum over the choices i of these experts of weights_ti f_i(x_t). x, y [tokens, d]; indices
// [tokens, top_k] int32, others than these (and -1) are left alone; weights [tokens, top_k].
void zero_experts(const Context& ctx, const ZeroExperts& experts, const ConstantExperts& params,
                  const TensorView& indices, const TensorView& weights, const TensorView& x,
                  const TensorView& y);

// dx [tokens, d] and the parameters' gradients accumulate; dweights [tokens, top_k] is overwritten
// for the choices of these experts, and only for them.
void zero_experts_backward(const Context& ctx, const ZeroExperts& experts,
                           const ConstantExperts& params, const TensorView& indices,
                           const TensorView& weights, const TensorView& x, const TensorView& dy,
                           const TensorView& dx, const TensorView& dweights,
                           const ConstantExperts& gradients);

// kept [tokens, top_k] int32 = indices, but -1 where they are not below `experts`.
void keep_choices_below(const Context& ctx, std::int64_t experts, const TensorView& indices,
                        const TensorView& kept);

}  // namespace witan::ops
