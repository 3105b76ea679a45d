#include "core/ops/activation.h"

#include "core/ops/cpu/activation_kernels.h"
#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/activation.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 4096;  // elements of h per thread below which threads do not pay

std::int64_t grain_rows(std::int64_t ff) { return kGrain / (ff + 1) + 1; }

// ff, after `in` [rows, input_factor ff] and the optional row_weight [rows] were checked.
std::int64_t check_input(const Context& ctx, const char* op, Activation kind, const TensorView& in,
                         const TensorView& row_weight) {
  check_float(op, "in", in, 2);
  check_operand(ctx, op, "in", in, in.dtype, in.shape);
  WITAN_CHECK(in.cols() % input_factor(kind) == 0, op, ": in: expected gate and up side by side, ",
              "found an odd number of columns, ", in.cols());
  if (!row_weight.empty()) {
    check_operand(ctx, op, "row_weight", row_weight, in.dtype, {in.rows()});
  }
  return in.cols() / input_factor(kind);
}

}  // namespace

void activation(const Context& ctx, Activation kind, const TensorView& in,
                const TensorView& row_weight, const TensorView& h, const SwigluOptions& options) {
  const std::int64_t ff = check_input(ctx, "activation", kind, in, row_weight);
  check_factor(ctx, "activation", "h", h, in.dtype, {in.rows(), ff});
  if (ctx.device.is_cuda()) return cuda::activation(ctx, kind, in, row_weight, h, options);
  dispatch_stored(in.dtype, h.dtype, [&](auto value, auto stored) {
    using T = decltype(value);
    const T* x = in.as<T>();
    const T* weight = row_weight.empty() ? nullptr : row_weight.as<T>();
    auto* y = h.as<decltype(stored)>();
    parallel_ranges(in.rows(), grain_rows(ff), [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(activation, kind, x + begin * in.cols(),
                     weight == nullptr ? nullptr : weight + begin, y + begin * ff, end - begin, ff,
                     options);
    });
  });
}

void activation_backward(const Context& ctx, Activation kind, const TensorView& in,
                         const TensorView& row_weight, const TensorView& dh, const TensorView& din,
                         const TensorView& drow_weight, const SwigluOptions& options) {
  const char* op = "activation_backward";
  const std::int64_t ff = check_input(ctx, op, kind, in, row_weight);
  check_operand(ctx, op, "dh", dh, in.dtype, {in.rows(), ff});
  check_factor(ctx, op, "din", din, in.dtype, in.shape);
  if (!row_weight.empty()) {
    check_operand(ctx, op, "drow_weight", drow_weight, in.dtype, {in.rows()});
  }
  if (ctx.device.is_cuda()) {
    return cuda::activation_backward(ctx, kind, in, row_weight, dh, din, drow_weight, options);
  }
  dispatch_stored(in.dtype, din.dtype, [&](auto value, auto stored) {
    using T = decltype(value);
    using D = decltype(stored);
    const T* x = in.as<T>();
    const T* weight = row_weight.empty() ? nullptr : row_weight.as<T>();
    const T* dy = dh.as<T>();
    D* dx = din.as<D>();
    T* dweight = row_weight.empty() ? nullptr : drow_weight.as<T>();
    parallel_ranges(in.rows(), grain_rows(ff), [&](std::int64_t begin, std::int64_t end) {
      D* row = din.data == dh.data ? cpu::scratch_of<D>(in.cols()) : nullptr;
      WITAN_CALL_ISA(activation_backward, kind, x + begin * in.cols(),
                     weight == nullptr ? nullptr : weight + begin, dy + begin * ff,
                     dx + begin * in.cols(), dweight == nullptr ? nullptr : dweight + begin,
                     end - begin, ff, options, row);
    });
  });
}

}  // namespace witan::ops
