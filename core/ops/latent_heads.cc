#include "core/ops/latent_heads.h"

#include <algorithm>
#include <limits>

#include "core/ops/cpu/rope_table.h"
#include "core/ops/cuda/latent_heads.h"
#include "core/ops/dispatch.h"
#include "core/ops/index_check.h"
#include "core/ops/parallel.h"

namespace witan::ops {
namespace {

constexpr std::int64_t kGrain = 8192;  // elements per thread below which threads do not pay

// Elements first .. first + half of a pair layout: `step` from pair to pair, `apart` within a pair.
template <class T>
void rotate(T* x, const T* cos_sin, T direction, std::int64_t half, bool interleaved) {
  const std::int64_t step = interleaved ? 2 : 1;
  const std::int64_t apart = interleaved ? 1 : half;
  for (std::int64_t i = 0; i < half; ++i) {
    T& first = x[i * step];
    T& second = x[i * step + apart];
    const T cosine = cos_sin[i];
    const T sine = direction * cos_sin[half + i];
    const T turned = first * cosine - second * sine;
    second = second * cosine + first * sine;
    first = turned;
  }
}

// Columns of the joined row.
struct Joined {
  explicit Joined(const LatentShape& shape)
      : keys(shape.heads * shape.qk_dim()),
        values(2 * keys),
        width(values + shape.heads * shape.v_dim) {}
  std::int64_t keys, values, width;
};

void check_join(const Context& ctx, const char* op, const LatentShape& shape, const TensorView& q,
                const TensorView& kv, const TensorView& k_rope, const TensorView& qkv) {
  const std::int64_t tokens = qkv.rows();
  check_float(op, "qkv", qkv, 2);
  check_operand(ctx, op, "qkv", qkv, qkv.dtype, {tokens, Joined(shape).width});
  check_operand(ctx, op, "q", q, qkv.dtype, {tokens, shape.heads * shape.qk_dim()});
  check_operand(ctx, op, "kv", kv, qkv.dtype,
                {tokens, shape.heads * (shape.nope_dim + shape.v_dim)});
  check_operand(ctx, op, "k_rope", k_rope, qkv.dtype, {tokens, shape.rope_dim});
}

template <class T>
void join_row(const LatentShape& shape, const T* q, const T* kv, const T* k_rope, T* qkv) {
  const Joined at(shape);
  std::copy_n(q, at.keys, qkv);
  T* key = qkv + at.keys;
  T* value = qkv + at.values;
  for (std::int64_t h = 0; h < shape.heads; ++h) {
    key = std::copy_n(kv, shape.nope_dim, key);
    key = std::copy_n(k_rope, shape.rope_dim, key);
    value = std::copy_n(kv + shape.nope_dim, shape.v_dim, value);
    kv += shape.nope_dim + shape.v_dim;
  }
}

template <class T>
void split_row(const LatentShape& shape, const T* dqkv, T* dq, T* dkv, T* dk_rope) {
  const Joined at(shape);
  std::copy_n(dqkv, at.keys, dq);
  const T* key = dqkv + at.keys;
  const T* value = dqkv + at.values;
  std::fill_n(dk_rope, shape.rope_dim, T{0});
  for (std::int64_t h = 0; h < shape.heads; ++h) {
    dkv = std::copy_n(key, shape.nope_dim, dkv);
    dkv = std::copy_n(value, shape.v_dim, dkv);
    for (std::int64_t i = 0; i < shape.rope_dim; ++i) dk_rope[i] += key[shape.nope_dim + i];
    key += shape.qk_dim();
    value += shape.v_dim;
  }
}

}  // namespace

void rotate_heads(const Context& ctx, const LatentShape& shape, const TensorView& x,
                  std::int64_t begin, std::int64_t count, std::int64_t stride,
                  const TensorView& positions, Rotation rotation) {
  const char* op = "rotate_heads";
  check_float(op, "x", x, 2);
  check_operand(ctx, op, "positions", positions, DType::kInt32, {x.rows()});
  WITAN_CHECK(shape.rope_dim > 0 && shape.rope_dim % 2 == 0, op, ": expected an even rope_dim, ",
              "found ", shape.rope_dim);
  WITAN_CHECK(count > 0 && begin >= 0 && begin + (count - 1) * stride + shape.rope_dim <= x.cols(),
              op, ": ", count, " heads from column ", begin, " of ", x.cols());
  if (ctx.device.is_cuda()) {
    return cuda::rotate_heads(ctx, shape, x, begin, count, stride, positions, rotation);
  }
  check_indices(op, "positions", positions, 0, std::numeric_limits<std::int32_t>::max());
  dispatch_float(x.dtype, op, [&](auto type) {
    using T = decltype(type);
    const cpu::RopeAngles<T> angles =
        cpu::rope_angles<T>(shape.theta, shape.rope_dim, shape.scaling, positions);
    const T direction = rotation == Rotation::kForward ? T{1} : T{-1};
    T* data = x.as<T>();
    const std::int64_t width = x.cols();
    parallel_ranges(x.rows(), kGrain / (count * shape.rope_dim) + 1,
                    [&](std::int64_t first, std::int64_t last) {
                      for (std::int64_t t = first; t < last; ++t) {
                        const T* cos_sin = angles.values + angles.rows[t] * shape.rope_dim;
                        T* head = data + t * width + begin;
                        for (std::int64_t h = 0; h < count; ++h, head += stride) {
                          rotate(head, cos_sin, direction, shape.rope_dim / 2, shape.interleaved);
                        }
                      }
                    });
  });
}

void join_latent_heads(const Context& ctx, const LatentShape& shape, const TensorView& q,
                       const TensorView& kv, const TensorView& k_rope, const TensorView& qkv) {
  check_join(ctx, "join_latent_heads", shape, q, kv, k_rope, qkv);
  if (ctx.device.is_cuda()) return cuda::join_latent_heads(ctx, shape, q, kv, k_rope, qkv);
  dispatch_float(qkv.dtype, "join_latent_heads", [&](auto type) {
    using T = decltype(type);
    parallel_ranges(qkv.rows(), kGrain / qkv.cols() + 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        join_row<T>(shape, q.as<T>() + t * q.cols(), kv.as<T>() + t * kv.cols(),
                    k_rope.as<T>() + t * shape.rope_dim, qkv.as<T>() + t * qkv.cols());
      }
    });
  });
}

void join_latent_heads_backward(const Context& ctx, const LatentShape& shape,
                                const TensorView& dqkv, const TensorView& dq, const TensorView& dkv,
                                const TensorView& dk_rope) {
  check_join(ctx, "join_latent_heads_backward", shape, dq, dkv, dk_rope, dqkv);
  if (ctx.device.is_cuda()) {
    return cuda::join_latent_heads_backward(ctx, shape, dqkv, dq, dkv, dk_rope);
  }
  dispatch_float(dqkv.dtype, "join_latent_heads_backward", [&](auto type) {
    using T = decltype(type);
    parallel_ranges(
        dqkv.rows(), kGrain / dqkv.cols() + 1, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t t = begin; t < end; ++t) {
            split_row<T>(shape, dqkv.as<T>() + t * dqkv.cols(), dq.as<T>() + t * dq.cols(),
                         dkv.as<T>() + t * dkv.cols(), dk_rope.as<T>() + t * shape.rope_dim);
          }
        });
  });
}

}  // namespace witan::ops
