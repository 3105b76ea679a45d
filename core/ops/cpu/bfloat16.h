// Rounding to bfloat16 in registers. For kernel files only.
#pragma once

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {

// The nearest bfloat16 of each lane, ties to even, as a float.
WITAN_INLINE VecFloat round_to_bfloat16(VecFloat x) {
  VecBits bits = (VecBits)x;
  bits = (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
  return x == x ? (VecFloat)bits : x;  // adding would turn some NaNs into zero
}

}  // namespace witan::cpu::WITAN_ISA
