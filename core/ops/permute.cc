#include "core/ops/permute.h"

#include <algorithm>

#include "core/ops/cpu/row_kernels.h"
#include "core/ops/cuda/permute.h"
#include "core/ops/dispatch.h"
#include "core/ops/elementwise.h"
#include "core/ops/index_check.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements per thread below which threads do not pay

}  // namespace

void permute(const Context& ctx, const TensorView& x, const TensorView& index,
             const TensorView& y) {
  permute(ctx, x, {}, index, y);
}

void permute(const Context& ctx, const TensorView& first, const TensorView& second,
             const TensorView& index, const TensorView& y) {
  const char* op = "permute";
  check_float(op, "x", first, 2);
  check_operand(ctx, op, "x", first, first.dtype, first.shape);
  const std::int64_t d = first.cols();
  const std::int64_t split = first.rows();
  if (!second.empty()) {
    check_operand(ctx, op, "second", second, first.dtype, {second.rows(), d});
  }
  check_factor(ctx, op, "y", y, first.dtype, {y.rows(), d});
  check_operand(ctx, op, "index", index, DType::kInt32, {y.rows()});
  if (ctx.device.is_cuda()) {
    return second.empty() ? cuda::permute(ctx, first, index, y)
                          : cuda::permute(ctx, first, second, index, y);
  }
  check_indices(op, "index", index, 0, split + (second.empty() ? 0 : second.rows()));
  const auto* row = index.as<std::int32_t>();
  dispatch_stored(first.dtype, y.dtype, [&](auto value, auto stored) {
    using T = decltype(value);
    using Y = decltype(stored);
    const T* others = second.empty() ? nullptr : second.as<T>();
    parallel_ranges(y.rows(), kGrain / (d + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(gather_rows_of_two, first.as<T>(), split, others, row + begin,
                     y.as<Y>() + begin * d, end - begin, d);
    });
  });
}

void permute_backward(const Context& ctx, const TensorView& dy, const TensorView& index,
                      const TensorView& dx) {
  const char* op = "permute_backward";
  check_float(op, "dy", dy, 2);
  check_operand(ctx, op, "dy", dy, dy.dtype, dy.shape);
  check_operand(ctx, op, "dx", dx, dy.dtype, dy.shape);
  check_operand(ctx, op, "index", index, DType::kInt32, {dy.rows()});
  if (ctx.device.is_cuda()) return cuda::permute_backward(ctx, dy, index, dx);
  check_indices(op, "index", index, 0, dx.rows());
  const std::int64_t d = dy.cols();
  dispatch_float(dy.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* from = dy.as<T>();
    const auto* row = index.as<std::int32_t>();
    T* to = dx.as<T>();
    parallel_ranges(dy.rows(), kGrain / (d + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(scatter_rows<T>, from + begin * d, row + begin, to, end - begin, d);
    });
  });
}

void scatter(const Context& ctx, const TensorView& x, const TensorView& index,
             const TensorView& y) {
  const char* op = "scatter";
  check_float(op, "x", x, 2);
  check_operand(ctx, op, "x", x, x.dtype, x.shape);
  check_operand(ctx, op, "y", y, x.dtype, {y.rows(), x.cols()});
  check_operand(ctx, op, "index", index, DType::kInt32, {x.rows()});
  if (ctx.device.is_cuda()) return cuda::scatter(ctx, x, index, y);
  check_indices(op, "index", index, 0, y.rows());
  fill(ctx, y, 0.0);
  const std::int64_t d = x.cols();
  dispatch_float(x.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* from = x.as<T>();
    const auto* row = index.as<std::int32_t>();
    T* to = y.as<T>();
    parallel_ranges(x.rows(), kGrain / (d + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(scatter_rows<T>, from + begin * d, row + begin, to, end - begin, d);
    });
  });
}

void unpermute_sum(const Context& ctx, const TensorView& x, const TensorView& begin,
                   const TensorView& index, const TensorView& y, bool accumulate) {
  const char* op = "unpermute_sum";
  check_float(op, "x", x, 2);
  check_float(op, "y", y, 2);
  check_operand(ctx, op, "x", x, x.dtype, x.shape);
  check_operand(ctx, op, "y", y, x.dtype, {y.rows(), x.cols()});
  check_operand(ctx, op, "begin", begin, DType::kInt32, {y.rows() + 1});
  check_operand(ctx, op, "index", index, DType::kInt32, {index.size()});
  if (ctx.device.is_cuda()) return cuda::unpermute_sum(ctx, x, begin, index, y, accumulate);
  check_lists(op, begin, index.size());
  check_indices(op, "index", index, 0, x.rows());
  const std::int64_t d = x.cols();
  const std::int64_t work = x.cols() * index.size() / std::max<std::int64_t>(1, y.rows());
  dispatch_float(x.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* from = x.as<T>();
    const auto* list = begin.as<std::int32_t>();
    const auto* row = index.as<std::int32_t>();
    T* to = y.as<T>();
    parallel_ranges(y.rows(), kGrain / (work + 1) + 1, [&](std::int64_t first, std::int64_t end) {
      WITAN_CALL_ISA(gather_sum_rows<T>, from, list + first, row, to + first * d, accumulate,
                     end - first, d);
    });
  });
}

}  // namespace witan::ops
