// Random numbers that are addressed, not drawn in order: Philox4x32-10 (Salmon et al., SC 2011).
// The same (seed, purpose, address) gives the same number at any rank count, thread count or order
// of evaluation.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/base/philox.h"

namespace witan {

using Philox4 = std::array<std::uint32_t, 4>;

// The Philox4x32-10 block function; known-answer tested against Random123's kat_vectors.
Philox4 philox4x32(Philox4 counter, std::array<std::uint32_t, 2> key);

// One stream of numbers, addressed by a 64-bit index.
class Random {
 public:
  // `purpose` says what the numbers are for ("init", "data", "sample", ...), `name` which tensor or
  // layer, `step` when.
  Random(std::uint64_t seed, std::string_view purpose, std::string_view name = {},
         std::uint64_t step = 0);

  std::uint64_t bits(std::uint64_t index) const;  // 64 uniform bits
  double uniform(std::uint64_t index) const;      // [0, 1), 53 bits
  double normal(std::uint64_t index) const;       // mean 0, standard deviation 1 (Box-Muller)
  // Both normals that one draw makes: half the work for long rows of them.
  std::array<double, 2> normal_pair(std::uint64_t index) const;
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const;  // 0 .. bound - 1

  const RandomAddress& address() const { return address_; }  // for kernels

 private:
  std::array<double, 2> polar(std::uint64_t index) const;  // radius and angle of Box-Muller

  RandomAddress address_;
};

// A permutation of 0 .. size - 1 evaluated at `index` in O(1) memory: a Feistel network over Philox
// with cycle walking.
class Permutation {
 public:
  Permutation(std::uint64_t seed, std::string_view purpose, std::uint64_t epoch,
              std::uint64_t size);
  std::uint64_t operator()(std::uint64_t index) const;

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint64_t size_;
  int half_bits_;
};

}  // namespace witan
