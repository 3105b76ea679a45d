// Temporary memory of CPU ops: one buffer per calling thread that only grows, so that the steady
// state allocates nothing. An op asks once and is done with it when it returns.
#pragma once

#include <cstddef>
#include <cstdint>

namespace witan::cpu {

// At least `bytes` bytes, aligned to kTensorAlignment, uninitialised; valid until this thread's
// next call.
void* scratch(std::size_t bytes);

template <class T>
T* scratch_of(std::int64_t count) {
  return static_cast<T*>(scratch(static_cast<std::size_t>(count) * sizeof(T)));
}

}  // namespace witan::cpu
