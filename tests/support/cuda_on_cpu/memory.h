// Device memory: one reserved region of addresses that the host cannot touch. Every allocation is
// filled with a pattern that is NaN in float32 and float64 and a negative integer, and lies between
// red zones with another such pattern.
#pragma once

#include <cstddef>
#include <string>

namespace witan::cuda_on_cpu {

// While one exists, device memory is readable and writable: a kernel or a copy runs.
class DeviceMemoryOpen {
 public:
  DeviceMemoryOpen();
  ~DeviceMemoryOpen();
  DeviceMemoryOpen(const DeviceMemoryOpen&) = delete;
  DeviceMemoryOpen& operator=(const DeviceMemoryOpen&) = delete;
};

bool is_device_address(const void* address);  // inside the region, allocated or not
// The bytes [data, data + bytes) lie inside one live allocation.
bool is_allocated(const void* data, std::size_t bytes);

bool is_pinned(const void* address);  // from cudaMallocHost

// The GPU whose memory the limit of WITAN_STAND_IN_GPU_MEMORY is.
void use_memory_of(int device);

// [data, data + bytes) becomes fresh, what follows in `reserved` bytes a red zone, in place of
// those that were there.
void renew(void* data, std::size_t bytes, std::size_t reserved);

// Reports every allocation whose red zones were written to, and mends them.
void check_red_zones(const std::string& after);

}  // namespace witan::cuda_on_cpu
