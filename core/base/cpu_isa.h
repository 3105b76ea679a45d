// Which compiled copy of the CPU kernels runs. Every kernel file is compiled once per level (see
// cmake/WitanIsaKernels.cmake) and the level is a pure function of the CPU's features, never of a
// timing.
#pragma once

#include <string_view>

namespace witan {

enum class CpuIsa { kBaseline, kAvx2, kAvx512 };  // x86-64, x86-64-v3, x86-64-v4

constexpr const char* name_of(CpuIsa isa) {
  return isa == CpuIsa::kBaseline ? "baseline" : isa == CpuIsa::kAvx2 ? "avx2" : "avx512";
}

// The highest level this CPU and operating system can execute.
CpuIsa best_cpu_isa();

// The level in use: best_cpu_isa() unless forced. Forcing a level the CPU lacks throws (never
// SIGILL).
CpuIsa cpu_isa();
void force_cpu_isa(CpuIsa isa);

// What multiplies bfloat16 beside the level: nothing, vdpbf16ps, or the AMX tiles.
enum class CpuBf16 { kNone, kDot, kAmx };

// All that this CPU and operating system execute, each implying those before it. AMX is asked for
// from Linux at the first call.
CpuBf16 best_cpu_bf16();

}  // namespace witan
