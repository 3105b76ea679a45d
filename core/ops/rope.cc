#include "core/ops/rope.h"

#include <limits>

#include "core/ops/cpu/norm_kernels.h"
#include "core/ops/cpu/rope_kernels.h"
#include "core/ops/cpu/rope_table.h"
#include "core/ops/cpu/row_blocks.h"
#include "core/ops/cpu/scratch.h"
#include "core/ops/cuda/rope.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 8192;  // elements per thread below which threads do not pay

std::int64_t width_of(const RopeShape& shape) {
  return (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
}

void check_shape(const Context& ctx, const char* op, const RopeShape& shape, const TensorView& x,
                 const TensorView& positions) {
  WITAN_CHECK(shape.heads > 0 && shape.kv_heads > 0, op, ": expected heads and kv_heads above 0, ",
              "found ", shape.heads, " and ", shape.kv_heads);
  WITAN_CHECK(shape.head_dim > 0 && shape.head_dim % 2 == 0, op,
              ": expected an even head_dim, found ", shape.head_dim);
  check_float(op, "qkv", x, 2);
  check_operand(ctx, op, "positions", positions, DType::kInt32, {x.rows()});
}

void check_norms(const Context& ctx, const char* op, const RopeShape& shape,
                 const TensorView& q_norm, const TensorView& k_norm, const TensorView& rstd,
                 DType dtype, std::int64_t tokens) {
  WITAN_CHECK(q_norm.empty() == k_norm.empty(), op, ": q_norm and k_norm come together");
  if (q_norm.empty()) return;
  check_operand(ctx, op, "q_norm", q_norm, dtype, {shape.q_norm_size()});
  check_operand(ctx, op, "k_norm", k_norm, dtype, {shape.k_norm_size()});
  check_operand(ctx, op, "rstd", rstd, dtype, {tokens, shape.norms()});
}

template <class T>
T* optional(const TensorView& x) {
  return x.empty() ? nullptr : x.as<T>();
}

template <class T>
void backward_with_norm(const RopeShape& shape, const TensorView& dout,
                        const cpu::RopeAngles<T>& angles, const TensorView& qkv, const T* q_norm,
                        const T* k_norm, const TensorView& rstd, const TensorView& dqkv, T* dq_norm,
                        T* dk_norm) {
  const std::int64_t width = width_of(shape);
  const std::int64_t normed = shape.norms();
  const std::int64_t stride = shape.q_norm_size() + shape.k_norm_size();
  const cpu::RowBlocks blocks(dout.rows());
  T* partials = cpu::scratch_of<T>(blocks.count * stride);
  const T* grad = dout.as<T>();
  const T* input = qkv.as<T>();
  const T* scale = rstd.as<T>();
  T* dinput = dqkv.as<T>();
  parallel_ranges(blocks.count, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t b = first; b < last; ++b) {
      const std::int64_t begin = blocks.begin(b);
      WITAN_CALL_ISA(rope_backward<T>, shape, grad + begin * width, angles.values,
                     angles.rows + begin, input + begin * width, q_norm, k_norm,
                     scale + begin * normed, dinput + begin * width, partials + b * stride,
                     blocks.end(b) - begin);
    }
  });
  WITAN_CALL_ISA(sum_partials<T>, partials, blocks.count, stride, dq_norm, shape.q_norm_size());
  WITAN_CALL_ISA(sum_partials<T>, partials + shape.q_norm_size(), blocks.count, stride, dk_norm,
                 shape.k_norm_size());
}

}  // namespace

void rope(const Context& ctx, const RopeShape& shape, const TensorView& qkv,
          const TensorView& positions, const TensorView& q_norm, const TensorView& k_norm,
          const TensorView& out, const TensorView& rstd) {
  check_shape(ctx, "rope", shape, qkv, positions);
  const std::int64_t width = width_of(shape);
  check_operand(ctx, "rope", "qkv", qkv, qkv.dtype, {qkv.rows(), width});
  check_operand(ctx, "rope", "out", out, qkv.dtype, qkv.shape);
  check_norms(ctx, "rope", shape, q_norm, k_norm, rstd, qkv.dtype, qkv.rows());
  WITAN_CHECK(q_norm.empty() || qkv.rows() == 0 || out.data != qkv.data,
              "rope: with qk-norm, out may not be qkv: the backward reads qkv");
  if (ctx.device.is_cuda()) {
    return cuda::rope(ctx, shape, qkv, positions, q_norm, k_norm, out, rstd);
  }
  check_indices("rope", "positions", positions, 0, std::numeric_limits<std::int32_t>::max());
  const std::int64_t normed = q_norm.empty() ? 0 : shape.norms();
  dispatch_float(qkv.dtype, "rope", [&](auto type) {
    using T = decltype(type);
    const cpu::RopeAngles<T> angles =
        cpu::rope_angles<T>(shape.theta, shape.head_dim, shape.scaling, positions);
    const T* input = qkv.as<T>();
    T* output = out.as<T>();
    T* scale = normed == 0 ? nullptr : rstd.as<T>();
    parallel_ranges(qkv.rows(), kGrain / width + 1, [&](std::int64_t begin, std::int64_t end) {
      WITAN_CALL_ISA(rope<T>, shape, input + begin * width, angles.values, angles.rows + begin,
                     optional<T>(q_norm), optional<T>(k_norm), output + begin * width,
                     normed == 0 ? nullptr : scale + begin * normed, end - begin);
    });
  });
}

void rope_backward(const Context& ctx, const RopeShape& shape, const TensorView& dout,
                   const TensorView& positions, const TensorView& qkv, const TensorView& q_norm,
                   const TensorView& k_norm, const TensorView& rstd, const TensorView& dqkv,
                   const TensorView& dq_norm, const TensorView& dk_norm) {
  const char* op = "rope_backward";
  check_shape(ctx, op, shape, dout, positions);
  const std::int64_t width = width_of(shape);
  check_operand(ctx, op, "dout", dout, dout.dtype, {dout.rows(), width});
  check_operand(ctx, op, "dqkv", dqkv, dout.dtype, dout.shape);
  check_norms(ctx, op, shape, q_norm, k_norm, rstd, dout.dtype, dout.rows());
  if (!q_norm.empty()) {
    check_operand(ctx, op, "qkv", qkv, dout.dtype, dout.shape);
    check_operand(ctx, op, "dq_norm", dq_norm, dout.dtype, {shape.q_norm_size()});
    check_operand(ctx, op, "dk_norm", dk_norm, dout.dtype, {shape.k_norm_size()});
  }
  if (ctx.device.is_cuda()) {
    return cuda::rope_backward(ctx, shape, dout, positions, qkv, q_norm, k_norm, rstd, dqkv,
                               dq_norm, dk_norm);
  }
  check_indices(op, "positions", positions, 0, std::numeric_limits<std::int32_t>::max());
  dispatch_float(dout.dtype, op, [&](auto type) {
    using T = decltype(type);
    const cpu::RopeAngles<T> angles =
        cpu::rope_angles<T>(shape.theta, shape.head_dim, shape.scaling, positions);
    if (!q_norm.empty()) {
      backward_with_norm<T>(shape, dout, angles, qkv, q_norm.as<T>(), k_norm.as<T>(), rstd, dqkv,
                            dq_norm.as<T>(), dk_norm.as<T>());
      return;
    }
    const T* grad = dout.as<T>();
    T* dinput = dqkv.as<T>();
    parallel_ranges(dout.rows(), kGrain / width + 1, [&](std::int64_t begin, std::int64_t end) {
      const T* none = nullptr;
      T* no_sums = nullptr;
      WITAN_CALL_ISA(rope_backward<T>, shape, grad + begin * width, angles.values,
                     angles.rows + begin, none, none, none, none, dinput + begin * width, no_sums,
                     end - begin);
    });
  });
}

}  // namespace witan::ops
