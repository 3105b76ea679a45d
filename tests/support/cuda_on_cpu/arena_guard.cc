// Red zones between the tensors of an arena, and fresh memory at each use of it.
#include "core/tensor/arena_guard.h"

#include "tests/support/cuda_on_cpu/control.h"
#include "tests/support/cuda_on_cpu/memory.h"
#include "tests/support/cuda_on_cpu/streams.h"

namespace witan {
namespace {

bool guards = false;

}  // namespace

namespace cuda_on_cpu {
void set_arena_guards(bool on) { guards = on; }
}  // namespace cuda_on_cpu

std::size_t arena_guard_bytes() noexcept { return guards ? 64 : 0; }

// What was enqueued may still read the memory, so it runs first.
void arena_hands_out(void* data, std::size_t bytes, std::size_t reserved) {
  if (!guards) return;
  cuda_on_cpu::run_everything();
  cuda_on_cpu::renew(data, bytes, reserved);
}

}  // namespace witan
