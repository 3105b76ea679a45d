// Scores whose experts share the tokens evenly (S-BASE, Clark et al. 2022). Definitions:
// docs/numerics.md, section "Router".
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/tensor/tensor_view.h"

namespace witan::ops {

// p [tokens, experts] float64 = exp(z - row maximum), then its columns normalised to sum tokens /
// experts and its rows to sum 1, in turn, `iterations` times. z [tokens, experts] float32 or
// float64; minus infinity becomes 0.
void sinkhorn(const Context& ctx, const TensorView& z, std::int64_t iterations,
              const TensorView& p);

}  // namespace witan::ops
