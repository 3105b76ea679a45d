// Rows as pieces of the largest size that their length and alignment allow, for kernels that only
// move them.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace witan::ops::cuda {

// 16 bytes: what one thread loads or stores at most in one instruction.
struct alignas(16) Piece16 {
  std::uint64_t low, high;
};

// Calls f(Piece{}) with the largest type that divides every one of `sizes`: lengths, strides and
// addresses in bytes. All are multiples of 4.
template <class F>
void dispatch_piece(std::initializer_list<std::uintptr_t> sizes, const F& f) {
  std::uintptr_t bits = 0;
  for (const std::uintptr_t size : sizes) bits |= size;
  if (bits % sizeof(Piece16) == 0) {
    f(Piece16{});
  } else if (bits % sizeof(std::uint64_t) == 0) {
    f(std::uint64_t{});
  } else {
    f(std::uint32_t{});
  }
}

inline std::uintptr_t address_of(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data);
}

}  // namespace witan::ops::cuda
