// Experts that choose their tokens (Zhou et al. 2022). Definitions: docs/numerics.md, section
// "Router".
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// Each expert takes the `each` tokens with its largest scores, ties to the earlier token, but none
// whose score is minus infinity: of s [tokens, experts], float32 or float64. indices [own, experts]
// int32, for the tokens first .. first + own: the experts that took the token in ascending order,
// then kNoChoice. Scores are only compared: twins agree wherever their operands do. Throws unless
// `each` is in 0 .. tokens and first + own tokens are there.
void expert_choice(const Context& ctx, const TensorView& s, std::int64_t each, std::int64_t first,
                   const TensorView& indices);

}  // namespace witan::ops
