// Row movement of dispatch and combine. float32 or float64 rows of d elements; indices int32.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// y[r] = x[index[r]]: x [n, d], index [rows], y [rows, d]. The permutation of a dispatch.
void permute(const Context& ctx, const TensorView& x, const TensorView& index, const TensorView& y);

// dx[index[r]] = dy[r]: the backward of a permute whose index hits every row of dx exactly once.
void permute_backward(const Context& ctx, const TensorView& dy, const TensorView& index,
                      const TensorView& dx);

// y[t] (+)= sum over j of x[slots[t, j]], j ascending: x [n, d], slots [tokens, k], y [tokens, d].
// The sum of a combine; also the backward of a permute that read each row k times.
void unpermute_sum(const Context& ctx, const TensorView& x, const TensorView& slots,
                   const TensorView& y, bool accumulate = false);

}  // namespace witan::ops
