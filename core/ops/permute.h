// Row movement of dispatch and combine. float32 or float64 rows of d elements; indices int32.
#pragma once

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// y[r] = x[index[r]]: x [n, d], index [rows], y [rows, d]. The permutation of a dispatch. y may be
// stored as an operand of products (operand_dtype() of core/ops/gemm.h), rounded to nearest even.
void permute(const Context& ctx, const TensorView& x, const TensorView& index, const TensorView& y);

// The same over the rows of `first` [n, d] and, counted after them, those of `second` [m, d].
// `second` may be empty.
void permute(const Context& ctx, const TensorView& first, const TensorView& second,
             const TensorView& index, const TensorView& y);

// dx[index[r]] = dy[r]: the backward of a permute whose index hits every row of dx exactly once.
void permute_backward(const Context& ctx, const TensorView& dy, const TensorView& index,
                      const TensorView& dx);

// y = 0, then y[index[r]] = x[r]: x [rows, d], index [rows] without repetitions, y [n, d].
void scatter(const Context& ctx, const TensorView& x, const TensorView& index, const TensorView& y);

// y[r] (+)= sum over j in [begin[r], begin[r + 1]) of x[index[j]], j ascending: x [n, d], begin
// [rows + 1] from 0 to the size of index, index [entries], y [rows, d]. The sum of a combine; also
// the backward of a permute that read each row any number of times.
void unpermute_sum(const Context& ctx, const TensorView& x, const TensorView& begin,
                   const TensorView& index, const TensorView& y, bool accumulate = false);

}  // namespace witan::ops
