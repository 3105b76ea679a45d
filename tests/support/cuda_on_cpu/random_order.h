// The seeded choices of the stand-in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace witan::cuda_on_cpu {

// splitmix64 (Steele, Lea and Flood 2014).
class RandomOrder {
 public:
  explicit RandomOrder(std::uint64_t seed) : state_(seed) {}

  std::size_t below(std::size_t bound) {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t mixed = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return static_cast<std::size_t>((mixed ^ (mixed >> 31)) % bound);
  }

 private:
  std::uint64_t state_;
};

}  // namespace witan::cuda_on_cpu
