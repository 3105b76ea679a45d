#include "core/base/rng.h"

#include <bit>
#include <cmath>
#include <numbers>

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

double to_unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace

Philox4 philox4x32(Philox4 counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {
        static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
        static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

Random::Random(std::uint64_t seed, std::string_view purpose, std::string_view name,
               std::uint64_t step)
    : key_(halves(mix(seed ^ mix(fnv1a(purpose))))), high_(halves(mix(fnv1a(name) ^ mix(step)))) {}

std::uint64_t Random::bits(std::uint64_t index) const {
  const auto low = halves(index);
  const Philox4 block = philox4x32({low[0], low[1], high_[0], high_[1]}, key_);
  return block[0] | (std::uint64_t{block[1]} << 32);
}

double Random::uniform(std::uint64_t index) const { return to_unit(bits(index)); }

double Random::normal(std::uint64_t index) const {
  const auto [radius, angle] = polar(index);
  return radius * std::cos(angle);
}

std::array<double, 2> Random::normal_pair(std::uint64_t index) const {
  const auto [radius, angle] = polar(index);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

std::array<double, 2> Random::polar(std::uint64_t index) const {
  const auto low = halves(index);
  const Philox4 block = philox4x32({low[0], low[1], high_[0], high_[1]}, key_);
  const double u = 1.0 - to_unit(block[0] | (std::uint64_t{block[1]} << 32));  // (0, 1]
  const double v = to_unit(block[2] | (std::uint64_t{block[3]} << 32));
  return {std::sqrt(-2.0 * std::log(u)), 2.0 * std::numbers::pi * v};
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
