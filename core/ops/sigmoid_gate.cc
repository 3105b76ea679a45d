#include "core/ops/sigmoid_gate.h"

#include <cmath>

#include "core/ops/cuda/sigmoid_gate.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrainRows = 64;  // per thread, below which threads do not pay

}  // namespace

void sigmoid_gate(const Context& ctx, const TensorView& x, const TensorView& gate,
                  const TensorView& y) {
  check_float("sigmoid_gate", "x", x, 2);
  check_operand(ctx, "sigmoid_gate", "x", x, x.dtype, x.shape);
  check_operand(ctx, "sigmoid_gate", "gate", gate, x.dtype, {x.rows()});
  check_operand(ctx, "sigmoid_gate", "y", y, x.dtype, x.shape);
  if (ctx.device.is_cuda()) return cuda::sigmoid_gate(ctx, x, gate, y);
  dispatch_float(x.dtype, "sigmoid_gate", [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t d = x.cols();
    T* g = gate.as<T>();
    parallel_ranges(x.rows(), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        g[t] = 1 / (1 + std::exp(-g[t]));
        const T* from = x.as<T>() + t * d;
        T* to = y.as<T>() + t * d;
        for (std::int64_t i = 0; i < d; ++i) to[i] = g[t] * from[i];
      }
    });
  });
}

void sigmoid_gate_backward(const Context& ctx, const TensorView& dy, const TensorView& gate,
                           const TensorView& x, const TensorView& dz) {
  const char* op = "sigmoid_gate_backward";
  check_float(op, "dy", dy, 2);
  check_operand(ctx, op, "dy", dy, dy.dtype, dy.shape);
  check_operand(ctx, op, "gate", gate, dy.dtype, {dy.rows()});
  check_operand(ctx, op, "x", x, dy.dtype, dy.shape);
  check_operand(ctx, op, "dz", dz, dy.dtype, {dy.rows()});
  if (ctx.device.is_cuda()) return cuda::sigmoid_gate_backward(ctx, dy, gate, x, dz);
  dispatch_float(dy.dtype, op, [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t d = dy.cols();
    const T* g = gate.as<T>();
    parallel_ranges(dy.rows(), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const T* gradient = dy.as<T>() + t * d;
        T* row = x.as<T>() + t * d;
        double dot = 0.0;
        for (std::int64_t i = 0; i < d; ++i) {
          dot += static_cast<double>(gradient[i]) * static_cast<double>(row[i]);
          row[i] = g[t] * gradient[i];
        }
        dz.as<T>()[t] = static_cast<T>(dot) * g[t] * (1 - g[t]);
      }
    });
  });
}

}  // namespace witan::ops
