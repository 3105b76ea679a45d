// The ids of words met before. Direct-mapped: a new word takes the place of one with the same hash.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace witan {

class WordCache {
 public:
  static constexpr std::size_t kMaxWord = 16;  // bytes; longer ones are not kept
  static constexpr std::size_t kMaxIds = 8;

  struct Entry {
    std::uint64_t low = 0, high = 0;  // the word's bytes, filled up with zeros
    std::uint8_t size = 0;            // of the word; 0: free
    std::uint8_t count = 0;
    std::int32_t ids[kMaxIds] = {};
  };

  // The place of `word` [1, kMaxWord bytes]: its entry, or what has to give way to it. `text` is
  // what the word lies in, so that it can be read in two steps.
  Entry& at(std::string_view text, std::string_view word) {
    probe_ = key_of(text, word);
    constexpr std::uint64_t kA = 0x9E3779B97F4A7C15U, kB = 0xC2B2AE3D27D4EB4FU;
    const std::uint64_t hash = (probe_.low * kA) ^ std::rotl(probe_.high * kB, 23);
    return entries_[(hash ^ word.size()) * kA >> (64 - kBits)];
  }
  // Whether `entry`, from the last at(), holds the word asked for.
  bool holds(const Entry& entry) const {
    return entry.low == probe_.low && entry.high == probe_.high && entry.size == probe_.size;
  }
  void put(Entry& entry, std::span<const std::int32_t> ids) const {
    if (ids.size() > kMaxIds) return;
    entry = probe_;
    entry.count = static_cast<std::uint8_t>(ids.size());
    std::memcpy(entry.ids, ids.data(), ids.size_bytes());
  }

 private:
  static constexpr int kBits = 15;

  static Entry key_of(std::string_view text, std::string_view word) {
    Entry key;
    key.size = static_cast<std::uint8_t>(word.size());
    const char* end = text.data() + text.size();
    if (end - word.data() >= static_cast<std::ptrdiff_t>(kMaxWord)) {
      std::memcpy(&key.low, word.data(), 8);
      std::memcpy(&key.high, word.data() + 8, 8);
      const std::size_t bits = 8 * word.size();
      if (bits < 64) key.low &= (std::uint64_t{1} << bits) - 1;
      if (bits <= 64) {
        key.high = 0;
      } else if (bits < 128) {
        key.high &= (std::uint64_t{1} << (bits - 64)) - 1;
      }
    } else {
      char bytes[kMaxWord] = {};
      std::memcpy(bytes, word.data(), word.size());
      std::memcpy(&key.low, bytes, 8);
      std::memcpy(&key.high, bytes + 8, 8);
    }
    return key;
  }

  std::vector<Entry> entries_ = std::vector<Entry>(std::size_t{1} << kBits);
  Entry probe_;
};

}  // namespace witan
