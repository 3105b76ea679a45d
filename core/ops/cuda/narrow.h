// Rounds float32 to bfloat16, nearest even, as the CPU backend rounds.
#pragma once

#include <cstdint>

#include "core/base/context.h"

namespace witan::ops::cuda {

// to[i] = from[i] for n elements of device memory; enqueued on ctx.stream. 6 bytes moved an
// element.
void narrow_operand(const Context& ctx, const float* from, std::int64_t n, std::uint16_t* to);

}  // namespace witan::ops::cuda
