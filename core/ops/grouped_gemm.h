// One product per group (expert) over uneven, possibly empty, groups of rows. `offsets` [groups +
// 1] (host memory) bounds the rows of each group: group g owns rows [offsets[g], offsets[g + 1]).
// float32 or float64, operands also as gemm.h says. Threads: whole groups, largest first, so that
// no thread waits behind one inside a product; a group's bits do not depend on the number of
// threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "core/base/context.h"
#include "core/ops/gemm.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// y_g = x_g w_g^T: x [rows, k], w [groups, n, k], y [rows, n].
void grouped_gemm_nt(const Context& ctx, const TensorView& x, std::span<const std::int64_t> offsets,
                     const TensorView& w, const TensorView& y);

// dx_g = dy_g w_g: dy [rows, n], w [groups, n, k], dx [rows, k].
void grouped_gemm_nn(const Context& ctx, const TensorView& dy,
                     std::span<const std::int64_t> offsets, const TensorView& w,
                     const TensorView& dx);

// dw_g (+)= dy_g^T x_g: dy [rows, n], x [rows, k], dw [groups, n, k]. An empty group leaves dw_g as
// it is, or makes it 0 if nothing is accumulated.
void grouped_gemm_tn(const Context& ctx, const TensorView& dy,
                     std::span<const std::int64_t> offsets, const TensorView& x,
                     const TensorView& dw, Accumulate accumulate = Accumulate::kYes);

// The backward of a linear layer in each group, the two products above in one call: dw_g (+)=
// dy_g^T x_g, dx_g = dy_g w_g. With bfloat16 products on CUDA dy is rounded once for both.
void grouped_gemm_backward(const Context& ctx, const TensorView& dy,
                           std::span<const std::int64_t> offsets, const TensorView& x,
                           const TensorView& w, const TensorView& dx, const TensorView& dw,
                           Accumulate accumulate_dw = Accumulate::kYes);

// On the CPU: whether each group is one thread's share of the products above, none being so large
// beside the others that it is cut.
bool keeps_groups_whole(std::span<const std::int64_t> offsets);

// f(group) for each, on all threads, largest first; groups without rows only if `empty_too`. What f
// calls runs on its thread.
void for_each_group(std::span<const std::int64_t> offsets, bool empty_too,
                    const std::function<void(std::int64_t)>& f);

}  // namespace witan::ops
