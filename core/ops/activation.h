// What stands between the up and the down projection of a feed-forward network or expert, with the
// routing weight folded in: the down projection has no bias, so scaling its input scales its
// output. float32 or float64.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// kSwiglu: `in` is [rows, 2 ff] = gate then up; h = silu(gate) * (up + up_offset), where up_offset
// is 0 except in the style of GPT-OSS (1). kSilu, kRelu: `in` is [rows, ff]; h = f(in).
enum class Activation { kSwiglu, kSilu, kRelu };

constexpr int input_factor(Activation kind) { return kind == Activation::kSwiglu ? 2 : 1; }

// h [rows, ff] = row_weight [rows] * f(in). `row_weight` may be empty (weight 1).
void activation(const Context& ctx, Activation kind, const TensorView& in,
                const TensorView& row_weight, const TensorView& h, double up_offset = 0.0);

// din [rows, input_factor * ff] and, if `row_weight` is given, drow_weight [rows] are overwritten;
// din may alias in.
void activation_backward(const Context& ctx, Activation kind, const TensorView& in,
                         const TensorView& row_weight, const TensorView& dh, const TensorView& din,
                         const TensorView& drow_weight, double up_offset = 0.0);

}  // namespace witan::ops
