// Sliding windows of attention: a token sees only the newest keys of its sequence.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// narrowed[t] = max(first_key[t], p - window + 1) of the token at position p = t % seq_len of its
// sequence, which then sees `window` keys at most, its own included. Both [batch seq_len] int32, as
// attention() reads them; window above 0.
void narrow_to_window(const Context& ctx, std::int64_t window, std::int64_t seq_len,
                      const TensorView& first_key, const TensorView& narrowed);

}  // namespace witan::ops
