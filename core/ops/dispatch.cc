#include "core/ops/dispatch.h"

#include "core/ops/gemm.h"

namespace witan::ops {

void require_cpu(const Context& ctx, const char* op) {
  if (ctx.device.is_cpu()) return;
  throw_user_error(
      op,
      ": device CUDA was asked for, but there is no CUDA kernel of it here (this op has "
      "none yet, or this witan was built without CUDA; docs/cuda.md); run on the CPU");
}

void check_operand(const Context& ctx, const char* op, const char* name, const TensorView& x,
                   DType dtype, const Shape& shape) {
  WITAN_CHECK(x.dtype == dtype, op, ": ", name, ": expected ", name_of(dtype), ", found ",
              name_of(x.dtype));
  WITAN_CHECK(x.shape == shape, op, ": ", name, ": expected shape ", shape.to_string(), ", found ",
              x.shape.to_string());
  WITAN_CHECK(x.device == ctx.device, op, ": ", name, ": expected on ", name_of(ctx.device.type),
              " ", ctx.device.index, ", found on ", name_of(x.device.type), " ", x.device.index);
  WITAN_CHECK(x.data != nullptr || x.size() == 0, op, ": ", name, ": no memory behind shape ",
              shape.to_string());
}

void check_factor(const Context& ctx, const char* op, const char* name, const TensorView& x,
                  DType dtype, const Shape& shape) {
  const DType stored = operand_dtype(ctx, dtype);
  check_operand(ctx, op, name, x, x.dtype == stored ? stored : dtype, shape);
}

void check_float(const char* op, const char* name, const TensorView& x, int rank) {
  WITAN_CHECK(x.dtype == DType::kFloat32 || x.dtype == DType::kFloat64, op, ": ", name,
              ": expected float32 or float64, found ", name_of(x.dtype));
  WITAN_CHECK(x.shape.rank() == rank, op, ": ", name, ": expected ", rank, " axes, found shape ",
              x.shape.to_string());
}

}  // namespace witan::ops
