// Biases of a bank of experts: the rows of group g (offsets as in grouped_gemm.h) get row g of the
// bias. float32 or float64.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// y[r] += row_weight[r] * bias[g]: y [rows, n], bias [groups, n], row_weight [rows] (empty: 1).
void grouped_add_bias(const Context& ctx, const TensorView& y,
                      std::span<const std::int64_t> offsets, const TensorView& row_weight,
                      const TensorView& bias);

// dbias[g] += sum over its rows, ascending, of row_weight[r] * dy[r]; with row_weights also
// drow_weight[r] += <dy[r], bias[g]> (else both are empty).
void grouped_bias_backward(const Context& ctx, const TensorView& dy,
                           std::span<const std::int64_t> offsets, const TensorView& row_weight,
                           const TensorView& bias, const TensorView& dbias,
                           const TensorView& drow_weight);

}  // namespace witan::ops
