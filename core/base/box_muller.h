// Normal numbers of an addressed stream (core/base/rng.h), for the host and for kernels: from the
// same bits, equal up to the rounding of the device's logarithm, sine and cosine.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "core/base/philox.h"

namespace witan {

// What Box and Muller (1958) make two independent normals of.
struct Polar {
  double radius, angle;
};

WITAN_HOST_DEVICE inline double unit_interval(std::uint32_t low, std::uint32_t high) {  // [0, 1)
  const std::uint64_t bits = low | (std::uint64_t{high} << 32);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

WITAN_HOST_DEVICE inline Polar polar_of(const PhiloxBlock& block) {
  const double u = 1.0 - unit_interval(block.word[0], block.word[1]);  // (0, 1]
  const double v = unit_interval(block.word[2], block.word[3]);
  return {std::sqrt(-2.0 * std::log(u)), 2.0 * std::numbers::pi * v};
}

// Numbers 2 index and 2 index + 1 of a sequence of normals, two of which come out of one block.
struct NormalPair {
  double even, odd;
};

WITAN_HOST_DEVICE inline NormalPair normal_pair(const RandomAddress& random, std::uint64_t index) {
  const Polar polar = polar_of(random.block(index));
  return {polar.radius * std::cos(polar.angle), polar.radius * std::sin(polar.angle)};
}

}  // namespace witan
