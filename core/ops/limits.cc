#include "core/ops/limits.h"

#include <atomic>

#include "core/base/error.h"
#include "core/ops/cpu/limit_kernels.h"
#include "core/ops/parallel.h"

namespace witan::ops {

namespace {

// Adds up the operations of all threads.
template <class F>
double on_all_threads(const F& f) {
  std::atomic<double> total{0.0};
  parallel_for(available_threads(), [&](std::int64_t) {
    double flops = 0.0;
    f(&flops);
    total += flops;
  });
  return total;
}

}  // namespace

double run_multiply_adds(std::int64_t rounds) {
  return on_all_threads([&](double* flops) { WITAN_CALL_ISA(multiply_adds, rounds, flops); });
}

double run_bf16_products(CpuBf16 unit, std::int64_t rounds) {
  WITAN_CHECK(unit != CpuBf16::kNone && unit <= best_cpu_bf16(), "this CPU lacks that unit");
  return on_all_threads([&](double* flops) {
    if (unit == CpuBf16::kAmx) return cpu::amx::bf16_products(rounds, flops);
    return cpu::avx512_bf16::bf16_products(rounds, flops);
  });
}

double read_memory(std::span<const float> x, std::int64_t times) {
  constexpr std::int64_t kPage = 1024;  // floats: threads share no page
  std::atomic<double> total{0.0};
  const auto size = static_cast<std::int64_t>(x.size());
  const auto read = [&](std::int64_t begin, std::int64_t end) {
    float sum = 0.0f;
    WITAN_CALL_ISA(read_floats, x.data() + begin, end - begin, times, &sum);
    total += static_cast<double>(sum);
  };
  parallel_ranges(size, kPage, read, kPage);
  return total;
}

}  // namespace witan::ops
