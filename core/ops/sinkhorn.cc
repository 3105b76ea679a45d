#include "core/ops/sinkhorn.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/sinkhorn.h"
#include "core/ops/dispatch.h"

namespace witan::ops {
namespace {

constexpr double kTiny = 1e-30;  // keeps a column of zeros from dividing by 0

// sums [experts]: memory.
void normalise(std::int64_t tokens, std::int64_t experts, std::int64_t iterations, double* p,
               double* sums) {
  const double share = static_cast<double>(tokens) / static_cast<double>(experts);
  double* const end = p + tokens * experts;
  for (std::int64_t i = 0; i < iterations; ++i) {
    std::fill_n(sums, experts, kTiny);
    for (const double* row = p; row != end; row += experts) {
      for (std::int64_t e = 0; e < experts; ++e) sums[e] += row[e];
    }
    for (std::int64_t e = 0; e < experts; ++e) sums[e] = share / sums[e];
    for (double* row = p; row != end; row += experts) {
      double sum = kTiny;
      for (std::int64_t e = 0; e < experts; ++e) sum += row[e] *= sums[e];
      for (std::int64_t e = 0; e < experts; ++e) row[e] /= sum;
    }
  }
}

}  // namespace

void sinkhorn(const Context& ctx, const TensorView& z, std::int64_t iterations,
              const TensorView& p) {
  const char* op = "sinkhorn";
  check_float(op, "z", z, 2);
  check_operand(ctx, op, "z", z, z.dtype, z.shape);
  check_operand(ctx, op, "p", p, DType::kFloat64, z.shape);
  WITAN_CHECK(z.cols() > 0 && iterations >= 0, op, ": ", iterations, " iterations over shape ",
              z.shape.to_string());
  if (ctx.device.is_cuda()) return cuda::sinkhorn(ctx, z, iterations, p);
  const std::int64_t experts = z.cols();
  auto* out = p.as<double>();
  dispatch_float(z.dtype, op, [&](auto zero) {
    const auto* logits = z.as<decltype(zero)>();
    for (std::int64_t t = 0; t < z.rows(); ++t) {
      const auto* row = logits + t * experts;
      const auto shift = static_cast<double>(*std::max_element(row, row + experts));
      for (std::int64_t e = 0; e < experts; ++e) {
        out[t * experts + e] = std::exp(static_cast<double>(row[e]) - shift);
      }
    }
  });
  normalise(z.rows(), experts, iterations, out, cpu::scratch_of<double>(experts));
}

}  // namespace witan::ops
