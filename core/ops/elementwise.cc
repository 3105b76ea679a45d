#include "core/ops/elementwise.h"

#include <cstring>

#include "core/ops/cpu/elementwise_kernels.h"
#include "core/ops/cuda/elementwise.h"
#include "core/ops/dispatch.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

// Fewer elements than this per thread cost more to hand out than to process.
constexpr std::int64_t kGrain = 32768;
// Ranges begin on whole cache lines, so that no two threads write one line.
constexpr std::int64_t kLine = 16;

template <class T>
void fill_cpu(const TensorView& x, T value) {
  T* data = x.as<T>();
  parallel_ranges(
      x.size(), kGrain,
      [&](std::int64_t begin, std::int64_t end) {
        WITAN_CALL_ISA(fill<T>, data + begin, end - begin, value);
      },
      kLine);
}

template <class From, class To>
void cast_cpu(const TensorView& from, const TensorView& to) {
  const From* source = from.as<From>();
  To* target = to.as<To>();
  parallel_ranges(
      from.size(), kGrain,
      [&](std::int64_t begin, std::int64_t end) {
        WITAN_CALL_ISA(cast, source + begin, target + begin, end - begin);
      },
      kLine);
}

}  // namespace

void fill(const Context& ctx, const TensorView& x, double value) {
  check_operand(ctx, "fill", "x", x, x.dtype, x.shape);
  if (ctx.device.is_cuda()) return cuda::fill(ctx, x, value);
  switch (x.dtype) {
    case DType::kFloat32: fill_cpu(x, static_cast<float>(value)); break;
    case DType::kFloat64: fill_cpu(x, value); break;
    case DType::kInt32: fill_cpu(x, static_cast<std::int32_t>(value)); break;
    case DType::kInt64: fill_cpu(x, static_cast<std::int64_t>(value)); break;
    case DType::kBfloat16: WITAN_CHECK(false, "fill: x: operands in bfloat16 are never filled");
  }
}

void copy(const Context& ctx, const TensorView& from, const TensorView& to) {
  check_operand(ctx, "copy", "from", from, from.dtype, from.shape);
  check_operand(ctx, "copy", "to", to, from.dtype, from.shape);
  if (ctx.device.is_cuda()) return cuda::copy(ctx, from, to);
  const char* source = static_cast<const char*>(from.data);
  char* target = static_cast<char*>(to.data);
  parallel_ranges(
      static_cast<std::int64_t>(from.bytes()), kGrain * 4,
      [&](std::int64_t begin, std::int64_t end) {
        std::memcpy(target + begin, source + begin, static_cast<std::size_t>(end - begin));
      },
      kLine * 4);
}

void cast(const Context& ctx, const TensorView& from, const TensorView& to) {
  check_float("cast", "from", from, from.shape.rank());
  check_float("cast", "to", to, from.shape.rank());
  check_operand(ctx, "cast", "from", from, from.dtype, from.shape);
  check_operand(ctx, "cast", "to", to, to.dtype, from.shape);
  if (from.dtype == to.dtype) return copy(ctx, from, to);
  if (ctx.device.is_cuda()) return cuda::cast(ctx, from, to);
  if (from.dtype == DType::kFloat32) {
    cast_cpu<float, double>(from, to);
  } else {
    cast_cpu<double, float>(from, to);
  }
}

void add(const Context& ctx, const TensorView& a, const TensorView& b, const TensorView& y) {
  check_operand(ctx, "add", "a", a, a.dtype, a.shape);
  check_operand(ctx, "add", "b", b, a.dtype, a.shape);
  check_operand(ctx, "add", "y", y, a.dtype, a.shape);
  if (ctx.device.is_cuda()) return cuda::add(ctx, a, b, y);
  dispatch_float(a.dtype, "add", [&](auto type) {
    using T = decltype(type);
    const T* left = a.as<T>();
    const T* right = b.as<T>();
    T* sum = y.as<T>();
    parallel_ranges(
        a.size(), kGrain,
        [&](std::int64_t begin, std::int64_t end) {
          WITAN_CALL_ISA(add<T>, left + begin, right + begin, sum + begin, end - begin);
        },
        kLine);
  });
}

void scale(const Context& ctx, const TensorView& x, double factor) {
  check_operand(ctx, "scale", "x", x, x.dtype, x.shape);
  if (ctx.device.is_cuda()) return cuda::scale(ctx, x, factor);
  dispatch_float(x.dtype, "scale", [&](auto type) {
    using T = decltype(type);
    T* data = x.as<T>();
    parallel_ranges(
        x.size(), kGrain,
        [&](std::int64_t begin, std::int64_t end) {
          WITAN_CALL_ISA(scale<T>, data + begin, end - begin, static_cast<T>(factor));
        },
        kLine);
  });
}

void round_operand(const Context& ctx, const TensorView& x) {
  check_operand(ctx, "round_operand", "x", x, x.dtype, x.shape);
  if (ctx.device.is_cuda()) return cuda::round_operand(ctx, x);
  if (ctx.products == Products::kFull || x.dtype != DType::kFloat32) return;
  float* data = x.as<float>();
  parallel_ranges(
      x.size(), kGrain,
      [&](std::int64_t begin, std::int64_t end) {
        WITAN_CALL_ISA(round_to_bfloat16, data + begin, end - begin);
      },
      kLine);
}

void add_bias(const Context& ctx, const TensorView& y, const TensorView& bias) {
  check_float("add_bias", "y", y, 2);
  check_operand(ctx, "add_bias", "y", y, y.dtype, y.shape);
  check_operand(ctx, "add_bias", "bias", bias, y.dtype, {y.cols()});
  if (ctx.device.is_cuda()) return cuda::add_bias(ctx, y, bias);
  const std::int64_t n = y.cols();
  dispatch_float(y.dtype, "add_bias", [&](auto type) {
    using T = decltype(type);
    T* data = y.as<T>();
    const T* b = bias.as<T>();
    parallel_ranges(y.rows(), kGrain / (n + 1) + 1, [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(add_bias<T>, data + begin * n, b, end - begin, n);
    });
  });
}

void bias_backward(const Context& ctx, const TensorView& dy, const TensorView& dbias) {
  check_float("bias_backward", "dy", dy, 2);
  check_operand(ctx, "bias_backward", "dy", dy, dy.dtype, dy.shape);
  check_operand(ctx, "bias_backward", "dbias", dbias, dy.dtype, {dy.cols()});
  if (ctx.device.is_cuda()) return cuda::bias_backward(ctx, dy, dbias);
  const std::int64_t rows = dy.rows();
  const std::int64_t n = dy.cols();
  dispatch_float(dy.dtype, "bias_backward", [&](auto type) {
    using T = decltype(type);
    const T* data = dy.as<T>();
    T* sums = dbias.as<T>();
    // Threads take columns, so that every sum runs over the rows in order.
    parallel_ranges(
        n, kGrain / (rows + 1) + 1,
        [&](std::int64_t begin, std::int64_t end) {
          WITAN_CALL_ISA(bias_backward<T>, data + begin, rows, n, sums + begin, end - begin);
        },
        kLine);
  });
}

}  // namespace witan::ops
