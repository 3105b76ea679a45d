// Host memory that the device copies to and from by itself: page-locked, so that a copy neither
// waits nor passes through a buffer of the driver. A host source is read when the copy runs.
#pragma once

#include "core/tensor/arena.h"

namespace witan {

// Blocks of arenas of the CPU.
class PinnedBlocks final : public BlockSource {
 public:
  void* allocate(std::size_t bytes) override;
  void release(void* data) noexcept override;
};

}  // namespace witan
