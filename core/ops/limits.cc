#include "core/ops/limits.h"

#include <atomic>

#include "core/ops/cpu/limit_kernels.h"
#include "core/ops/parallel.h"

namespace witan::ops {

double run_multiply_adds(std::int64_t rounds) {
  std::atomic<double> total{0.0};
  parallel_for(available_threads(), [&](std::int64_t) {
    double flops = 0.0;
    WITAN_CALL_ISA(multiply_adds, rounds, &flops);
    total += flops;
  });
  return total;
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
