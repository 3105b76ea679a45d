// The CUDA twins of core/ops/wire_rows.h for device memory; operands have been checked by
// wire_rows.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

// to [rows, pitch] bfloat16, rounded to nearest even, zero behind column d: row r from x[index[r]],
// or from x[r] where index is null. x [.., d] float32.
void narrow_rows(const Context& ctx, const TensorView& x, const std::int32_t* index,
                 std::int64_t rows, std::int64_t pitch, std::byte* to);

// y [rows, d] float32 from from [rows, pitch] bfloat16.
void widen_rows(const Context& ctx, const std::byte* from, std::int64_t pitch, const TensorView& y);

}  // namespace witan::ops::cuda
