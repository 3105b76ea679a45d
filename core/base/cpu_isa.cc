#include "core/base/cpu_isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "core/base/error.h"

namespace witan {
namespace {
std::atomic<int> forced{-1};

// Leaf 7: sub-leaf 0 EDX has AMX-BF16 (22) and AMX-TILE (24), sub-leaf 1 EAX has AVX512-BF16 (5).
bool cpu_has_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1U) != 0;
}
bool cpu_has_amx_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1U) != 0 && (d >> 24 & 1U) != 0;
}

// Linux gives a process the tiles' 8 KiB of state only when asked.
bool linux_grants_amx() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
}  // namespace

CpuIsa best_cpu_isa() {
  static const CpuIsa best = [] {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) return CpuIsa::kAvx512;
    if (__builtin_cpu_supports("x86-64-v3")) return CpuIsa::kAvx2;
    return CpuIsa::kBaseline;
  }();
  return best;
}

CpuIsa cpu_isa() {
  const int value = forced.load(std::memory_order_relaxed);
  return value < 0 ? best_cpu_isa() : static_cast<CpuIsa>(value);
}

void force_cpu_isa(CpuIsa isa) {
  WITAN_CHECK(isa <= best_cpu_isa(), "kernels for ", name_of(isa),
              " were asked for; this CPU executes at most ", name_of(best_cpu_isa()));
  forced = static_cast<int>(isa);
}

CpuBf16 best_cpu_bf16() {
  static const CpuBf16 best = [] {
    if (best_cpu_isa() != CpuIsa::kAvx512 || !cpu_has_avx512_bf16()) return CpuBf16::kNone;
    return cpu_has_amx_bf16() && linux_grants_amx() ? CpuBf16::kAmx : CpuBf16::kDot;
  }();
  return best;
}

}  // namespace witan
