// The merges of a BPE vocabulary: (left id, right id) -> rank and the id of both together.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace witan {

class PairTable {
 public:
  struct Merge {
    std::uint32_t rank = kNone;
    std::int32_t id = -1;
  };
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  explicit PairTable(std::size_t merges)
      : slots_(std::bit_ceil(2 * merges + 2)),
        shift_(64 - std::countr_zero(slots_.size())),
        mask_(slots_.size() - 1) {}

  // A pair that is there already gets the new rank.
  void insert(std::int32_t left, std::int32_t right, Merge merge) {
    Slot& slot = slots_[find_slot(key_of(left, right))];
    slot = {key_of(left, right), merge};
  }

  // Rank kNone if the pair does not merge.
  Merge find(std::int32_t left, std::int32_t right) const {
    return slots_[find_slot(key_of(left, right))].merge;
  }

 private:
  static constexpr std::uint64_t kFree = std::numeric_limits<std::uint64_t>::max();
  struct Slot {
    std::uint64_t key = kFree;
    Merge merge;
  };
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t find_slot(std::uint64_t key) const {
    std::size_t at = key * 0x9E3779B97F4A7C15U >> shift_;
    while (slots_[at].key != key && slots_[at].key != kFree) at = (at + 1) & mask_;
    return at;
  }

  std::vector<Slot> slots_;  // open addressing, at most half full
  int shift_;
  std::size_t mask_;
};

}  // namespace witan
