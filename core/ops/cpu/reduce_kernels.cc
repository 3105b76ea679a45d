#include "core/ops/cpu/reduce_kernels.h"

namespace witan::cpu::WITAN_ISA {
namespace {

// Partial sums, as many at every CPU level, so that the order of additions is the same at all of
// them.
constexpr int kLanes = 32;

double sum_lanes(double* lanes) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

}  // namespace

template <class T>
void block_sum(const T* x, std::int64_t count, double* result) {
  double lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(x[i + lane]);
  }
  for (int lane = 0; i + lane < count; ++lane) lanes[lane] += static_cast<double>(x[i + lane]);
  *result = sum_lanes(lanes);
}

template <class T>
void block_sum_of_squares(const T* x, std::int64_t count, double* result) {
  double lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = static_cast<double>(x[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (int lane = 0; i + lane < count; ++lane) {
    const double value = static_cast<double>(x[i + lane]);
    lanes[lane] += value * value;
  }
  *result = sum_lanes(lanes);
}

template void block_sum(const float*, std::int64_t, double*);
template void block_sum(const double*, std::int64_t, double*);
template void block_sum_of_squares(const float*, std::int64_t, double*);
template void block_sum_of_squares(const double*, std::int64_t, double*);

}  // namespace witan::cpu::WITAN_ISA
