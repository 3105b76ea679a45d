#include "launch/bench/device_product.h"

#include <algorithm>
#include <vector>

#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/ops/cuda/limits.h"
#include "core/ops/elementwise.h"
#include "core/tensor/transfer.h"

namespace witan {
namespace {

constexpr std::int64_t kRowsEach = 64;  // of a square, times the multiprocessors

}  // namespace

DeviceProduct::DeviceProduct(const Context& ctx, DType dtype)
    : ctx_(ctx), side_(kRowsEach * cuda::device_properties(ctx.device).multiprocessors) {
  const Shape square{side_, side_};
  const char* what = "a dense product to measure by";
  a_ = Tensor(square, dtype, ctx.device, what);
  b_ = Tensor(square, dtype, ctx.device, what);
  c_ = Tensor(square, dtype, ctx.device, what);
  fill_with_noise(ctx, c_);
  ops::cuda::make_operand(ctx, c_, a_);
  ops::cuda::make_operand(ctx, c_, b_);
}

void DeviceProduct::run() const { ops::cuda::bare_product(ctx_, side_, a_, b_, c_); }

double DeviceProduct::flop() const {
  const auto side = static_cast<double>(side_);
  return 2.0 * side * side * side;
}

std::string DeviceProduct::name() const {
  return detail::concat("cuBLAS ", precision_name(ctx_, c_.view().dtype), ", ", side_, " x ", side_,
                        " x ", side_);
}

std::string precision_name(const Context& ctx, DType dtype) {
  const bool rounded = ctx.products == Products::kBfloat16 && dtype == DType::kFloat32;
  return rounded ? "bf16" : name_of(dtype);
}

void fill_with_noise(const Context& ctx, const TensorView& x) {
  constexpr std::int64_t kDrawn = 1 << 14;
  const TensorView flat = x.reshape({x.size()});
  const std::int64_t drawn = std::min(kDrawn, x.size());
  dispatch_float(x.dtype, "noise", [&](auto zero) {
    const Random random(1, "bench", "noise");
    std::vector<decltype(zero)> values;
    for (std::int64_t i = 0; i < drawn; ++i) {
      values.push_back(static_cast<decltype(zero)>(random.normal(static_cast<std::uint64_t>(i))));
    }
    transfer(ctx, view_of(values.data(), {drawn}), flat.slice_rows(0, drawn));
  });
  for (std::int64_t filled = drawn; filled > 0 && filled < x.size();) {
    const std::int64_t count = std::min(filled, x.size() - filled);
    ops::copy(ctx, flat.slice_rows(0, count), flat.slice_rows(filled, count));
    filled += count;
  }
}

}  // namespace witan
