// Cosines and sines of rotary positions, computed once and kept.
#pragma once

#include <cstdint>

#include "core/ops/rope_scaling.h"
#include "core/tensor/tensor_view.h"

namespace witan::cpu {

// Where a token's cosines and sines stand: row rows[t] of values [.., head_dim] (cosines, then
// sines).
template <class T>
struct RopeAngles {
  const T* values = nullptr;
  const std::int32_t* rows = nullptr;
};

// Valid until this thread's next call. Positions must not be negative. Angles are computed in
// double.
template <class T>
RopeAngles<T> rope_angles(double theta, std::int64_t head_dim, const ops::RopeScaling& scaling,
                          const TensorView& positions);

}  // namespace witan::cpu
