#include "core/ops/rope_scaling.h"

#include <algorithm>
#include <cmath>

namespace witan::ops {
namespace {

constexpr double kTwoPi = 6.283185307179586;

// The index (not whole) of the pair that turns `turns` times within the original length.
double index_of_turns(double turns, double theta, std::int64_t head_dim, double length) {
  return static_cast<double>(head_dim) * std::log(length / (turns * kTwoPi)) /
         (2.0 * std::log(theta));
}

void stretch_yarn(double theta, std::int64_t head_dim, const RopeScaling& scaling,
                  std::vector<double>& frequencies) {
  double low = index_of_turns(scaling.fast, theta, head_dim, scaling.original_length);
  double high = index_of_turns(scaling.slow, theta, head_dim, scaling.original_length);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;  // a step instead of a line
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double divided = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] *= 1.0 - divided + divided / scaling.factor;
  }
}

void stretch_llama3(const RopeScaling& scaling, std::vector<double>& frequencies) {
  for (double& frequency : frequencies) {
    const double turns = scaling.original_length * frequency / kTwoPi;
    const double kept =
        std::clamp((turns - scaling.slow) / (scaling.fast - scaling.slow), 0.0, 1.0);
    frequency *= kept + (1.0 - kept) / scaling.factor;
  }
}

}  // namespace

std::vector<double> rope_frequencies(double theta, std::int64_t head_dim,
                                     const RopeScaling& scaling) {
  std::vector<double> frequencies(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  }
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone: break;
    case RopeScaling::Kind::kLinear:
      for (double& frequency : frequencies) frequency /= scaling.factor;
      break;
    case RopeScaling::Kind::kYarn: stretch_yarn(theta, head_dim, scaling, frequencies); break;
    case RopeScaling::Kind::kLlama3: stretch_llama3(scaling, frequencies); break;
  }
  return frequencies;
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

}  // namespace witan::ops
