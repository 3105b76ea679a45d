#include "core/base/rng.h"

#include <bit>
#include <cmath>

#include "core/base/box_muller.h"
#include "core/base/error.h"

namespace witan {
namespace {

// FNV-1a, continued from `hash`; a fixed function, so that addresses never change between builds or
// machines.
std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = 14695981039346656037ULL) {
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

// SplitMix64's finaliser: spreads nearby seeds over the whole key space.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

std::array<std::uint32_t, 2> halves(std::uint64_t x) {
  return {static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(x >> 32)};
}

}  // namespace

Philox4 philox4x32(Philox4 counter, std::array<std::uint32_t, 2> key) {
  const PhiloxBlock block =
      philox_block({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
  return {block.word[0], block.word[1], block.word[2], block.word[3]};
}

Random::Random(std::uint64_t seed, std::string_view purpose, std::string_view name,
               std::uint64_t step) {
  const auto key = halves(mix(seed ^ mix(fnv1a(purpose))));
  const auto high = halves(mix(fnv1a(name) ^ mix(step)));
  address_ = {{key[0], key[1]}, {high[0], high[1]}};
}

std::uint64_t Random::bits(std::uint64_t index) const {
  const PhiloxBlock block = address_.block(index);
  return block.word[0] | (std::uint64_t{block.word[1]} << 32);
}

double Random::uniform(std::uint64_t index) const { return address_.uniform(index); }

double Random::normal(std::uint64_t index) const {
  const auto [radius, angle] = polar(index);
  return radius * std::cos(angle);
}

std::array<double, 2> Random::normal_pair(std::uint64_t index) const {
  const NormalPair pair = witan::normal_pair(address_, index);
  return {pair.even, pair.odd};
}

std::array<double, 2> Random::polar(std::uint64_t index) const {
  const Polar polar = polar_of(address_.block(index));
  return {polar.radius, polar.angle};
}

std::uint64_t Random::below(std::uint64_t index, std::uint64_t bound) const {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((Wide{bits(index)} * bound) >> 64);
}

Permutation::Permutation(std::uint64_t seed, std::string_view purpose, std::uint64_t epoch,
                         std::uint64_t size)
    : key_(halves(mix(mix(seed ^ mix(fnv1a(purpose))) ^ mix(epoch)))), size_(size) {
  WITAN_CHECK(size > 0, "a permutation needs at least one element");
  half_bits_ = (static_cast<int>(std::bit_width(size - 1)) + 1) / 2;
  if (half_bits_ == 0) half_bits_ = 1;
}

std::uint64_t Permutation::operator()(std::uint64_t index) const {
  WITAN_CHECK(index < size_, "permutation index ", index, " is not below ", size_);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {  // cycle walking: the domain is at most four times `size`
    std::uint64_t left = index >> half_bits_;
    std::uint64_t right = index & mask;
    for (std::uint32_t round = 0; round < 6; ++round) {
      const auto r = halves(right);
      const Philox4 block = philox4x32({r[0], r[1], round, 0x5045524DU}, key_);
      const std::uint64_t f = (block[0] | (std::uint64_t{block[1]} << 32)) & mask;
      const std::uint64_t next = left ^ f;
      left = right;
      right = next;
    }
    index = (left << half_bits_) | right;
  } while (index >= size_);
  return index;
}

}  // namespace witan
