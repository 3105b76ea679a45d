// The CUDA twin of core/ops/columns.h; operands have been checked by columns.cc.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void copy_columns(const Context& ctx, const TensorView& from, std::int64_t from_begin,
                  const TensorView& to, std::int64_t to_begin, std::int64_t count);

}  // namespace witan::ops::cuda
