// The CUDA twin of sliding_window.h; operands have been checked by sliding_window.cc.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops::cuda {

void narrow_to_window(const Context& ctx, std::int64_t window, std::int64_t seq_len,
                      const TensorView& first_key, const TensorView& narrowed);

}  // namespace witan::ops::cuda
