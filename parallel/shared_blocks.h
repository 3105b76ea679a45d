// Blocks of arenas in memory that the other ranks of the node can read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/tensor/arena.h"
#include "parallel/shared_segment.h"

namespace witan {

class SharedBlocks final : public BlockSource {
 public:
  // Where another process finds an address of this one.
  struct Place {
    std::int64_t descriptor = -1;  // of the segment; -1: not in shared memory
    std::int64_t bytes = 0;        // of the segment
    std::int64_t offset = 0;
    std::int64_t epoch = 0;  // places of another epoch mean nothing any more
  };

  void* allocate(std::size_t bytes) override;
  void release(void* data) noexcept override;
  Place find(const void* data) const;

 private:
  std::vector<SharedSegment> segments_;
  std::int64_t epoch_ = 1;
};

}  // namespace witan
