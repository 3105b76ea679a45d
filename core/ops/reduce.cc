#include "core/ops/reduce.h"

#include <algorithm>
#include <vector>

#include "core/ops/cpu/reduce_kernels.h"
#include "core/ops/cuda/reduce.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kBlock = 8192;     // elements; fixed, whatever the number of threads
constexpr std::int64_t kBlockGrain = 16;  // blocks per thread below which threads do not pay

// Adds up block(begin, count) over all blocks, in their order. Blocks are summed in rounds, so that
// their results fit a fixed array.
template <class Block>
double sum_blocks(std::int64_t size, const Block& block) {
  constexpr std::int64_t kRound = 1024;
  double partial[kRound];
  double total = 0.0;
  for (std::int64_t start = 0; start < size; start += kRound * kBlock) {
    const std::int64_t blocks = std::min(kRound, (size - start + kBlock - 1) / kBlock);
    parallel_ranges(blocks, kBlockGrain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t b = first; b < last; ++b) {
        const std::int64_t begin = start + b * kBlock;
        partial[b] = block(begin, std::min(kBlock, size - begin));
      }
    });
    for (std::int64_t b = 0; b < blocks; ++b) total += partial[b];
  }
  return total;
}

}  // namespace

double sum(const Context& ctx, const TensorView& x) {
  check_operand(ctx, "sum", "x", x, x.dtype, x.shape);
  if (ctx.device.is_cuda()) return cuda::sum(ctx, x);
  double result = 0.0;
  dispatch_float(x.dtype, "sum", [&](auto type) {
    using T = decltype(type);
    const T* data = x.as<T>();
    result = sum_blocks(x.size(), [&](std::int64_t begin, std::int64_t count) {
      double value = 0.0;
      WITAN_CALL_ISA(block_sum<T>, data + begin, count, &value);
      return value;
    });
  });
  return result;
}

double sum_of_squares(const Context& ctx, const TensorView& x) {
  check_operand(ctx, "sum_of_squares", "x", x, x.dtype, x.shape);
  if (ctx.device.is_cuda()) return cuda::sum_of_squares(ctx, x);
  double result = 0.0;
  dispatch_float(x.dtype, "sum_of_squares", [&](auto type) {
    using T = decltype(type);
    const T* data = x.as<T>();
    result = sum_blocks(x.size(), [&](std::int64_t begin, std::int64_t count) {
      double value = 0.0;
      WITAN_CALL_ISA(block_sum_of_squares<T>, data + begin, count, &value);
      return value;
    });
  });
  return result;
}

void add_dot(const Context& ctx, double factor, const TensorView& a, const TensorView& b,
             const TensorView& total) {
  check_operand(ctx, "add_dot", "b", b, b.dtype, b.shape);
  check_operand(ctx, "add_dot", "a", a, a.dtype == DType::kFloat64 ? a.dtype : b.dtype, b.shape);
  check_operand(ctx, "add_dot", "total", total, DType::kFloat64, {1});
  if (ctx.device.is_cuda()) return cuda::add_dot(ctx, factor, a, b, total);
  dispatch_float(a.dtype, "add_dot", [&](auto left) {
    dispatch_float(b.dtype, "add_dot", [&](auto right) {
      const auto* x = a.as<decltype(left)>();
      const auto* y = b.as<decltype(right)>();
      double sum = 0.0;
      for (std::int64_t i = 0; i < a.size(); ++i) {
        sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
      }
      *total.as<double>() += factor * sum;
    });
  });
}

}  // namespace witan::ops
