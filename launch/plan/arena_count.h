// An Arena without memory: counts what one with the same requests would hand out.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/tensor/allocator.h"

namespace witan {

class ArenaCount {
 public:
  void allocate(std::int64_t elements, std::int64_t element_bytes) {
    constexpr auto kAlign = static_cast<std::int64_t>(kTensorAlignment);
    const std::int64_t bytes = (elements * element_bytes + kAlign - 1) / kAlign * kAlign;
    used_ += std::max(bytes, kAlign);
    allocated_ += bytes;
    high_water_ = std::max(high_water_, used_);
    ++requests_;
  }
  std::int64_t high_water() const { return high_water_; }
  // Over everything that was handed out, given back or not: what is written at least once.
  std::int64_t allocated() const { return allocated_; }
  std::int64_t requests() const { return requests_; }

  // Gives back at its end what was handed out since.
  class Scope {
   public:
    explicit Scope(ArenaCount& arena) : arena_(arena), used_(arena.used_) {}
    ~Scope() { arena_.used_ = used_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    ArenaCount& arena_;
    std::int64_t used_;
  };
  std::int64_t mark() const { return used_; }
  void rewind(std::int64_t mark) { used_ = mark; }

 private:
  std::int64_t used_ = 0, high_water_ = 0, allocated_ = 0, requests_ = 0;
};

}  // namespace witan
