#include "core/ops/cpu/rope_table.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/ops/parallel.h"
#include "core/tensor/tensor.h"

namespace witan::cpu {
namespace {

// A table over all positions is kept up to here (16 MiB of float32 at head_dim 128); beyond it
// every call computes the angles of its own tokens.
constexpr std::int64_t kMostPositions = 32768;
constexpr std::int64_t kFewestPositions = 512;

// What the angles of a position depend on.
struct Frequencies {
  double theta = 0.0;
  std::int64_t head_dim = 0;
  ops::RopeScaling scaling;
  bool operator==(const Frequencies&) const = default;
};

struct Table {
  Frequencies of;
  std::vector<double> frequencies;
  Tensor values;  // [positions, head_dim]
};

struct TokenAngles {
  Tensor values;  // [tokens, head_dim]
  Tensor rows;    // [tokens] int32: 0, 1, 2, ...
};

template <class T>
void write_angles(double position, const Table& table, T* row) {
  const std::size_t half = table.frequencies.size();
  const double factor = table.of.scaling.attention_factor;
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = position * table.frequencies[i];
    row[i] = static_cast<T>(factor * std::cos(angle));
    row[half + i] = static_cast<T>(factor * std::sin(angle));
  }
}

template <class T>
RopeAngles<T> angles_per_token(const Table& table, const std::int32_t* positions,
                               std::int64_t tokens) {
  thread_local TokenAngles angles;
  const std::int64_t head_dim = table.of.head_dim;
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
      write_angles(static_cast<double>(positions[t]), table, values + t * head_dim);
      rows[t] = static_cast<std::int32_t>(t);
    }
  });
  return {values, rows};
}

}  // namespace

template <class T>
RopeAngles<T> rope_angles(double theta, std::int64_t head_dim, const ops::RopeScaling& scaling,
                          const TensorView& positions) {
  const auto* position = positions.as<std::int32_t>();
  const std::int64_t tokens = positions.size();
  std::int64_t last = 0;
  for (std::int64_t t = 0; t < tokens; ++t) last = std::max<std::int64_t>(last, position[t]);

  thread_local Table kept;  // one per T
  Table& table = kept;      // this thread's, also on the threads that fill it
  const Frequencies wanted = {theta, head_dim, scaling};
  if (!(table.of == wanted)) {
    table = {wanted, ops::rope_frequencies(theta, head_dim, scaling), {}};
  }
  if (last >= kMostPositions) return angles_per_token<T>(table, position, tokens);
  if (table.values.empty() || table.values.shape()[0] <= last) {
    std::int64_t count = kFewestPositions;
    while (count <= last) count *= 2;
    table.values = Tensor({count, head_dim}, dtype_of<T>::value);
    T* values = table.values.template as<T>();
    ops::parallel_ranges(count, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        write_angles(static_cast<double>(p), table, values + p * head_dim);
      }
    });
  }
  return {table.values.template as<T>(), position};
}

template RopeAngles<float> rope_angles<float>(double, std::int64_t, const ops::RopeScaling&,
                                              const TensorView&);
template RopeAngles<double> rope_angles<double>(double, std::int64_t, const ops::RopeScaling&,
                                                const TensorView&);

}  // namespace witan::cpu
