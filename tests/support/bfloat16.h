// Rounding to bfloat16 from its definition, to compare with what the kernels do by bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"

namespace witan::test {

// To nearest, ties to even: the neighbours are 2^-7 of the power of two apart.
inline float rounded(float x) {
  if (!std::isfinite(x)) return x;
  int exponent = 0;
  std::frexp(x, &exponent);
  const double step = std::ldexp(1.0, exponent - 8);
  return static_cast<float>(std::nearbyint(static_cast<double>(x) / step) * step);
}

inline std::vector<float> rounded(std::vector<float> values) {
  for (float& x : values) x = rounded(x);
  return values;
}

inline Bfloat16 stored(float x) {
  return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(rounded(x)) >> 16)};
}

inline std::vector<Bfloat16> stored(const std::vector<float>& values) {
  std::vector<Bfloat16> all;
  for (const float x : values) all.push_back(stored(x));
  return all;
}

// As bits, to compare.
inline std::vector<std::uint16_t> bits_of(const std::vector<Bfloat16>& values) {
  std::vector<std::uint16_t> bits;
  for (const Bfloat16 x : values) bits.push_back(x.bits);
  return bits;
}

}  // namespace witan::test
