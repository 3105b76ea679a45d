#include "core/ops/grouped_bias.h"

#include "core/ops/cuda/grouped_bias.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

// The checks that forward and backward share; returns the width.
std::int64_t check(const Context& ctx, const char* op, const TensorView& y,
                   std::span<const std::int64_t> offsets, const TensorView& row_weight,
                   const TensorView& bias) {
  check_float(op, "y", y, 2);
  check_float(op, "bias", bias, 2);
  const std::int64_t groups = bias.rows();
  check_operand(ctx, op, "y", y, y.dtype, y.shape);
  check_operand(ctx, op, "bias", bias, y.dtype, {groups, y.cols()});
  if (!row_weight.empty()) check_operand(ctx, op, "row_weight", row_weight, y.dtype, {y.rows()});
  WITAN_CHECK(std::ssize(offsets) == groups + 1 && offsets.back() <= y.rows(), op, ": expected ",
              groups + 1, " offsets within ", y.rows(), " rows, found ", offsets.size());
  return y.cols();
}

}  // namespace

void grouped_add_bias(const Context& ctx, const TensorView& y,
                      std::span<const std::int64_t> offsets, const TensorView& row_weight,
                      const TensorView& bias) {
  const std::int64_t n = check(ctx, "grouped_add_bias", y, offsets, row_weight, bias);
  if (ctx.device.is_cuda()) return cuda::grouped_add_bias(ctx, y, offsets, row_weight, bias);
  dispatch_float(y.dtype, "grouped_add_bias", [&](auto type) {
    using T = decltype(type);
    const T* weight = row_weight.empty() ? nullptr : row_weight.as<T>();
    parallel_for_dynamic(bias.rows(), [&](std::int64_t g) {
      const T* b = bias.as<T>() + g * n;
      for (std::int64_t r = offsets[static_cast<std::size_t>(g)];
           r < offsets[static_cast<std::size_t>(g) + 1]; ++r) {
        T* row = y.as<T>() + r * n;
        const T w = weight == nullptr ? T{1} : weight[r];
        for (std::int64_t i = 0; i < n; ++i) row[i] += w * b[i];
      }
    });
  });
}

void grouped_bias_backward(const Context& ctx, const TensorView& dy,
                           std::span<const std::int64_t> offsets, const TensorView& row_weight,
                           const TensorView& bias, const TensorView& dbias,
                           const TensorView& drow_weight) {
  const char* op = "grouped_bias_backward";
  const std::int64_t n = check(ctx, op, dy, offsets, row_weight, bias);
  check_operand(ctx, op, "dbias", dbias, dy.dtype, bias.shape);
  if (!row_weight.empty()) {
    check_operand(ctx, op, "drow_weight", drow_weight, dy.dtype, {dy.rows()});
  }
  if (ctx.device.is_cuda()) {
    return cuda::grouped_bias_backward(ctx, dy, offsets, row_weight, bias, dbias, drow_weight);
  }
  dispatch_float(dy.dtype, op, [&](auto type) {
    using T = decltype(type);
    const T* weight = row_weight.empty() ? nullptr : row_weight.as<T>();
    T* dweight = row_weight.empty() ? nullptr : drow_weight.as<T>();
    parallel_for_dynamic(bias.rows(), [&](std::int64_t g) {
      const T* b = bias.as<T>() + g * n;
      T* db = dbias.as<T>() + g * n;
      for (std::int64_t r = offsets[static_cast<std::size_t>(g)];
           r < offsets[static_cast<std::size_t>(g) + 1]; ++r) {
        const T* row = dy.as<T>() + r * n;
        const T w = weight == nullptr ? T{1} : weight[r];
        double dot = 0.0;
        for (std::int64_t i = 0; i < n; ++i) {
          db[i] += w * row[i];
          dot += static_cast<double>(row[i]) * static_cast<double>(b[i]);
        }
        if (dweight != nullptr) dweight[r] += static_cast<T>(dot);
      }
    });
  });
}

}  // namespace witan::ops
