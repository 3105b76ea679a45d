// The block function behind core/base/rng.h, and the uniform numbers made of it, for the host and
// for kernels: the same bits on either.
#pragma once

#include <cstdint>

#include "core/base/cuda/host_device.h"

namespace witan {

struct PhiloxBlock {
  std::uint32_t word[4];
};

// Philox4x32-10 (Salmon et al., SC 2011).
WITAN_HOST_DEVICE inline PhiloxBlock philox_block(PhiloxBlock counter, std::uint32_t key0,
                                                  std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53U} * counter.word[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57U} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(p1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(p1),
                static_cast<std::uint32_t>(p0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(p0)}};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

// What addresses one stream of numbers (Random::address()); an argument of kernels.
struct RandomAddress {
  std::uint32_t key[2];
  std::uint32_t high[2];

  WITAN_HOST_DEVICE PhiloxBlock block(std::uint64_t index) const {
    return philox_block({{static_cast<std::uint32_t>(index),
                          static_cast<std::uint32_t>(index >> 32), high[0], high[1]}},
                        key[0], key[1]);
  }
  // As Random::uniform.
  WITAN_HOST_DEVICE double uniform(std::uint64_t index) const {
    const PhiloxBlock random = block(index);
    const std::uint64_t bits = random.word[0] | (std::uint64_t{random.word[1]} << 32);
    return static_cast<double>(bits >> 11) * 0x1p-53;
  }
};

}  // namespace witan
