// Raw memory on a device. Every allocation of a tensor or arena passes here and is counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/base/device.h"
#include "core/base/error.h"

namespace witan {

class OutOfMemory : public Error {
 public:
  using Error::Error;
};

inline constexpr std::size_t kTensorAlignment = 64;  // bytes: a cache line, and an AVX-512 vector

// At least `bytes` bytes, aligned to kTensorAlignment (256 on CUDA); throws with the size and what
// was free.
void* device_allocate(Device device, std::size_t bytes);
// The same; where there is not enough memory, the message also says what it was for.
void* allocate_for(const std::string& what, Device device, std::size_t bytes);
void device_free(Device device, void* data, std::size_t bytes) noexcept;

struct AllocationStats {
  std::int64_t allocations = 0;  // calls of device_allocate so far
  std::int64_t bytes_in_use = 0;
  std::int64_t bytes_peak = 0;
};
AllocationStats allocation_stats(DeviceType type);

}  // namespace witan
