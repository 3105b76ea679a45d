// Rotary angles on the device: computed in double from frequencies that travel as a kernel
// argument, since positions are known only there; once for each token and pair, for all heads of
// the token.
#pragma once

#include <cstdint>

#include "core/base/cuda/dialect.h"
#include "core/base/error.h"
#include "core/ops/rope_scaling.h"

namespace witan::ops::cuda {

inline constexpr int kMaxRopePairs = 256;  // 2 KiB of the 4 KiB that arguments may take

struct RopeFrequencies {
  double radians[kMaxRopePairs];  // per position
  double factor;                  // on cosines and sines
  std::int32_t pairs;             // rotated elements of a head / 2
};

inline RopeFrequencies frequencies_of(double theta, std::int64_t head_dim,
                                      const RopeScaling& scaling) {
  WITAN_CHECK(head_dim / 2 <= kMaxRopePairs, "rotary embedding on CUDA: expected at most ",
              2 * kMaxRopePairs, " rotated elements of a head, found ", head_dim);
  RopeFrequencies frequencies = {};
  const std::vector<double> radians = rope_frequencies(theta, head_dim, scaling);
  for (std::size_t i = 0; i < radians.size(); ++i) frequencies.radians[i] = radians[i];
  frequencies.factor = scaling.attention_factor;
  frequencies.pairs = static_cast<std::int32_t>(head_dim / 2);
  return frequencies;
}

// cos_sin [2 pairs] in shared memory: cosines, then sines, of one position, by all threads of a
// one-dimensional block; to be followed by a barrier.
template <class T>
__device__ void write_angles(const RopeFrequencies& frequencies, std::int32_t position,
                             T* cos_sin) {
  for (int i = static_cast<int>(threadIdx.x); i < frequencies.pairs;
       i += static_cast<int>(blockDim.x)) {
    const double angle = static_cast<double>(position) * frequencies.radians[i];
    cos_sin[i] = static_cast<T>(frequencies.factor * cos(angle));
    cos_sin[frequencies.pairs + i] = static_cast<T>(frequencies.factor * sin(angle));
  }
}

}  // namespace witan::ops::cuda
