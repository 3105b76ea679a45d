#include "core/ops/cpu/rope_kernels.h"

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {
namespace {

// One head: (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin), the inverse with -sin. y may be x.
template <class T>
WITAN_INLINE void rotate(const T* x, const T* cos_sin, T direction, T* y, std::int64_t half) {
  for_each_vec<T>(half, [&](std::int64_t i, auto part) WITAN_LAMBDA {
    const Vec<T> cosine = load(cos_sin + i, part);
    const Vec<T> sine = load(cos_sin + half + i, part) * direction;
    const Vec<T> first = load(x + i, part);
    const Vec<T> second = load(x + half + i, part);
    store(y + i, first * cosine - second * sine, part);
    store(y + half + i, second * cosine + first * sine, part);
  });
}

// y = x rstd w; returns rstd.
template <class T>
WITAN_INLINE T normalize(const T* x, const T* w, double eps, T* y, std::int64_t head_dim) {
  VecDouble squares = {};
  for_each_vec<double>(head_dim, [&](std::int64_t i, auto part) WITAN_LAMBDA {
    const VecDouble v = load_wide(x + i, part);
    squares += v * v;
  });
  const double mean_square = sum_lanes(squares) / static_cast<double>(head_dim);
  const T scale = static_cast<T>(1.0 / __builtin_sqrt(mean_square + eps));
  for_each_vec<T>(head_dim, [&](std::int64_t i, auto part) WITAN_LAMBDA {
    store(y + i, load(x + i, part) * scale * load(w + i, part), part);
  });
  return scale;
}

// The gradient of normalize, from and to `grad` in place; dw accumulates.
template <class T>
WITAN_INLINE void normalize_backward(const T* x, const T* w, T scale, T* grad, T* dw,
                                     std::int64_t head_dim) {
  VecDouble dot = {};
  for_each_vec<double>(head_dim, [&](std::int64_t i, auto part) WITAN_LAMBDA {
    dot += load_wide(grad + i, part) * load_wide(w + i, part) * load_wide(x + i, part);
  });
  const double wide = static_cast<double>(scale);
  const T slope =
      static_cast<T>(wide * wide * wide * sum_lanes(dot) / static_cast<double>(head_dim));
  for_each_vec<T>(head_dim, [&](std::int64_t i, auto part) WITAN_LAMBDA {
    const Vec<T> dy = load(grad + i, part);
    const Vec<T> value = load(x + i, part);
    store(dw + i, load(dw + i, part) + dy * (value * scale), part);
    store(grad + i, dy * load(w + i, part) * scale - value * slope, part);
  });
}

template <class T>
void copy_row(const T* from, T* to, std::int64_t count) {
  if (from == to) return;
  for_each_vec<T>(count, [&](std::int64_t i, auto part)
                             WITAN_LAMBDA { store(to + i, load(from + i, part), part); });
}

// What RopeShape says; written out, since a kernel file may emit no function of a header.
WITAN_INLINE std::int64_t norm_size(const ops::RopeShape& shape, std::int64_t heads) {
  return shape.norm_whole ? heads * shape.head_dim : shape.head_dim;
}
WITAN_INLINE std::int64_t norm_count(const ops::RopeShape& shape) {
  return shape.norm_whole ? 2 : shape.heads + shape.kv_heads;
}

}  // namespace

template <class T>
void rope(const ops::RopeShape& shape, const T* qkv, const T* table, const std::int32_t* table_rows,
          const T* q_norm, const T* k_norm, T* out, T* rstd, std::int64_t tokens) {
  const std::int64_t head_dim = shape.head_dim;
  const std::int64_t rotated = shape.heads + shape.kv_heads;
  const std::int64_t norms = norm_count(shape);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const T* cos_sin = table + table_rows[t] * head_dim;
    if (q_norm != nullptr && shape.norm_whole) {
      const std::int64_t q_size = norm_size(shape, shape.heads);
      rstd[t * norms] = normalize(qkv, q_norm, shape.qk_norm_eps, out, q_size);
      rstd[t * norms + 1] = normalize(qkv + q_size, k_norm, shape.qk_norm_eps, out + q_size,
                                      norm_size(shape, shape.kv_heads));
    }
    for (std::int64_t head = 0; head < rotated; ++head, qkv += head_dim, out += head_dim) {
      if (q_norm == nullptr) {
        rotate(qkv, cos_sin, T{1}, out, head_dim / 2);
        continue;
      }
      if (!shape.norm_whole) {
        const T* w = head < shape.heads ? q_norm : k_norm;
        rstd[t * norms + head] = normalize(qkv, w, shape.qk_norm_eps, out, head_dim);
      }
      rotate(out, cos_sin, T{1}, out, head_dim / 2);
    }
    const std::int64_t values = shape.kv_heads * head_dim;
    copy_row(qkv, out, values);
    qkv += values;
    out += values;
  }
}

template <class T>
void rope_backward(const ops::RopeShape& shape, const T* dout, const T* table,
                   const std::int32_t* table_rows, const T* qkv, const T* q_norm, const T* k_norm,
                   const T* rstd, T* dqkv, T* dnorm_partial, std::int64_t tokens) {
  const std::int64_t head_dim = shape.head_dim;
  const std::int64_t rotated = shape.heads + shape.kv_heads;
  const std::int64_t width = (rotated + shape.kv_heads) * head_dim;
  const std::int64_t norms = norm_count(shape);
  const std::int64_t q_size = norm_size(shape, shape.heads);
  const std::int64_t k_size = norm_size(shape, shape.kv_heads);
  if (q_norm != nullptr) {
    for (std::int64_t i = 0; i < q_size + k_size; ++i) dnorm_partial[i] = 0;
  }
  for (std::int64_t t = 0; t < tokens; ++t, dout += width, dqkv += width) {
    const T* cos_sin = table + table_rows[t] * head_dim;
    const T* x = qkv + t * width;
    for (std::int64_t head = 0; head < rotated; ++head) {
      const std::int64_t at = head * head_dim;
      rotate(dout + at, cos_sin, T{-1}, dqkv + at, head_dim / 2);
      if (q_norm == nullptr || shape.norm_whole) continue;
      const bool is_query = head < shape.heads;
      normalize_backward(x + at, is_query ? q_norm : k_norm, rstd[t * norms + head], dqkv + at,
                         is_query ? dnorm_partial : dnorm_partial + q_size, head_dim);
    }
    if (q_norm != nullptr && shape.norm_whole) {
      normalize_backward(x, q_norm, rstd[t * norms], dqkv, dnorm_partial, q_size);
      normalize_backward(x + q_size, k_norm, rstd[t * norms + 1], dqkv + q_size,
                         dnorm_partial + q_size, k_size);
    }
    copy_row(dout + rotated * head_dim, dqkv + rotated * head_dim, shape.kv_heads * head_dim);
  }
}

#define WITAN_INSTANTIATE(T)                                                                   \
  template void rope(const ops::RopeShape&, const T*, const T*, const std::int32_t*, const T*, \
                     const T*, T*, T*, std::int64_t);                                          \
  template void rope_backward(const ops::RopeShape&, const T*, const T*, const std::int32_t*,  \
                              const T*, const T*, const T*, const T*, T*, T*, std::int64_t);
WITAN_INSTANTIATE(float)
WITAN_INSTANTIATE(double)

}  // namespace witan::cpu::WITAN_ISA
