// A block of columns from one matrix into another.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// to[r, to_begin + c] = from[r, from_begin + c] for c < count. Both [rows, ..], of one dtype, no
// overlap.
void copy_columns(const Context& ctx, const TensorView& from, std::int64_t from_begin,
                  const TensorView& to, std::int64_t to_begin, std::int64_t count);

}  // namespace witan::ops
