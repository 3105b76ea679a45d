#include "core/base/cpu_isa.h"

#include <atomic>

#include "core/base/error.h"

namespace witan {
namespace {
std::atomic<int> forced{-1};
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

}  // namespace witan
