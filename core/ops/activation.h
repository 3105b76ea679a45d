// What stands between the up and the down projection of a feed-forward network or expert, with the
// routing weight folded in: the product with the down projection is linear in its input, so scaling
// the one scales the other. float32 or float64.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// kSwiglu: `in` is [rows, 2 ff] = gate then up; h = f(gate) * (up + up_offset) with f(x) = x
// sigmoid(gate_slope x). The others: `in` is [rows, ff], h = f(in): silu, relu, and gelu as x
// Phi(x) or in its tanh approximation.
enum class Activation { kSwiglu, kSilu, kRelu, kGelu, kGeluTanh };

// Of kSwiglu (GPT-OSS: offset 1, slope 1.702, clamp 7).
struct SwigluOptions {
  double up_offset = 0.0;
  double gate_slope = 1.0;
  double clamp = 0.0;  // gate at most this, up within +- this; 0: none
};

constexpr int input_factor(Activation kind) { return kind == Activation::kSwiglu ? 2 : 1; }

// h [rows, ff] = row_weight [rows] * f(in). `row_weight` may be empty (weight 1). h and din may be
// stored as operands of products (operand_dtype() of core/ops/gemm.h), rounded to nearest even.
void activation(const Context& ctx, Activation kind, const TensorView& in,
                const TensorView& row_weight, const TensorView& h,
                const SwigluOptions& options = {});

// din [rows, input_factor * ff] and, if `row_weight` is given, drow_weight [rows] are overwritten;
// din may alias in; of kSwiglu and stored in bfloat16, where it takes as many bytes as dh, it may
// alias dh instead.
void activation_backward(const Context& ctx, Activation kind, const TensorView& in,
                         const TensorView& row_weight, const TensorView& dh, const TensorView& din,
                         const TensorView& drow_weight, const SwigluOptions& options = {});

}  // namespace witan::ops
