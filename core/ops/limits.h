// What the cores of this machine can do at best: the yardsticks of `witan bench`. All of OpenMP's
// threads work at once; float32, with the vectors of the CPU level in use.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/cpu_isa.h"

namespace witan::ops {

// `rounds` of independent multiply-adds on registers on every thread; returns the floating-point
// operations of all threads (a multiply-add is two).
double run_multiply_adds(std::int64_t rounds);

// The same with the products of bfloat16 that this unit makes; only on a CPU that has it.
double run_bf16_products(CpuBf16 unit, std::int64_t rounds);

// Reads x from beginning to end, `times` times; each thread reads a part of its own. Returns the
// sum of all that was read.
double read_memory(std::span<const float> x, std::int64_t times);

}  // namespace witan::ops
