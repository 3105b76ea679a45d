#include "core/tensor/arena_guard.h"

namespace witan {

std::size_t arena_guard_bytes() noexcept { return 0; }
void arena_hands_out(void*, std::size_t, std::size_t) {}

}  // namespace witan
