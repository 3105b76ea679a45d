#include "core/ops/cpu/rope_table.h"

#include <algorithm>
#include <cmath>

#include "core/ops/parallel.h"
#include "core/tensor/tensor.h"

namespace witan::cpu {
namespace {

// A table over all positions is kept up to here (16 MiB of float32 at head_dim 128); beyond it
// every call computes the angles of its own tokens.
constexpr std::int64_t kMostPositions = 32768;
constexpr std::int64_t kFewestPositions = 512;

struct Table {
  double theta = 0.0;
  std::int64_t head_dim = 0;
  Tensor values;  // [positions, head_dim]
};

struct TokenAngles {
  Tensor values;  // [tokens, head_dim]
  Tensor rows;    // [tokens] int32: 0, 1, 2, ...
};

template <class T>
void write_angles(double position, double theta, T* row, std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double angle = position * std::pow(theta, exponent);
    row[i] = static_cast<T>(std::cos(angle));
    row[half + i] = static_cast<T>(std::sin(angle));
  }
}

template <class T>
RopeAngles<T> angles_per_token(const ops::RopeShape& shape, const std::int32_t* positions,
                               std::int64_t tokens) {
  thread_local TokenAngles angles;
  const std::int64_t head_dim = shape.head_dim;
  if (angles.values.empty() || angles.values.view().dtype != dtype_of<T>::value ||
      angles.values.view().size() < tokens * head_dim) {
    angles.values = Tensor({tokens, head_dim}, dtype_of<T>::value);
  }
  if (angles.rows.empty() || angles.rows.view().rows() < tokens) {
    angles.rows = Tensor({tokens}, DType::kInt32);
  }
  T* values = angles.values.template as<T>();
  auto* rows = angles.rows.as<std::int32_t>();
  ops::parallel_ranges(tokens, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      write_angles(static_cast<double>(positions[t]), shape.theta, values + t * head_dim, head_dim);
      rows[t] = static_cast<std::int32_t>(t);
    }
  });
  return {values, rows};
}

}  // namespace

template <class T>
RopeAngles<T> rope_angles(const ops::RopeShape& shape, const TensorView& positions) {
  const auto* position = positions.as<std::int32_t>();
  const std::int64_t tokens = positions.size();
  std::int64_t last = 0;
  for (std::int64_t t = 0; t < tokens; ++t) last = std::max<std::int64_t>(last, position[t]);
  if (last >= kMostPositions) return angles_per_token<T>(shape, position, tokens);

  thread_local Table table;  // one per T
  const std::int64_t head_dim = shape.head_dim;
  const bool same = table.theta == shape.theta && table.head_dim == head_dim;
  if (!same || table.values.shape()[0] <= last) {
    std::int64_t count = kFewestPositions;
    while (count <= last) count *= 2;
    table.values = Tensor({count, head_dim}, dtype_of<T>::value);
    table.theta = shape.theta;
    table.head_dim = head_dim;
    T* values = table.values.template as<T>();
    ops::parallel_ranges(count, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        write_angles(static_cast<double>(p), shape.theta, values + p * head_dim, head_dim);
      }
    });
  }
  return {table.values.template as<T>(), position};
}

template RopeAngles<float> rope_angles<float>(const ops::RopeShape&, const TensorView&);
template RopeAngles<double> rope_angles<double>(const ops::RopeShape&, const TensorView&);

}  // namespace witan::cpu
