#include "core/tensor/pinned_blocks.h"

#include "core/tensor/allocator_cuda.h"

namespace witan {

void* PinnedBlocks::allocate(std::size_t bytes) { return cuda_allocate_pinned(bytes); }
void PinnedBlocks::release(void* data) noexcept { cuda_free_pinned(data); }

}  // namespace witan
