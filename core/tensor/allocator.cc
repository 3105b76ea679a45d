#include <sys/mman.h>

#include <atomic>
#include <cstdlib>

#include "core/base/error.h"
#include "core/tensor/allocator.h"
#include "core/tensor/allocator_cuda.h"
#include "core/tensor/device_memory.h"

namespace witan {
namespace {

struct Counters {
  std::atomic<std::int64_t> allocations{0};
  std::atomic<std::int64_t> in_use{0};
  std::atomic<std::int64_t> peak{0};
};
Counters counters[2];

// Large blocks lie on pages of 2 MiB where the system has them: matrix products and the optimizer
// read many rows that lie pages apart, more than a TLB of 4 KiB pages holds.
constexpr std::size_t kHugePage = std::size_t{1} << 21;

void* cpu_allocate(std::size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  const bool huge = false;  // an overrun into the padding would go unnoticed
#else
  const bool huge = bytes >= kHugePage / 2;
#endif
  const std::size_t alignment = huge ? kHugePage : kTensorAlignment;
  const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, padded == 0 ? alignment : padded);
  if (data == nullptr) {
    throw OutOfMemory(detail::concat("out of memory: ", bytes, " bytes asked for on the CPU"));
  }
  if (huge) madvise(data, padded, MADV_HUGEPAGE);  // advice: nothing depends on it
  return data;
}

}  // namespace

void* device_allocate(Device device, std::size_t bytes) {
  void* data = nullptr;
  if (device.is_cpu()) {
    data = cpu_allocate(bytes);
  } else {
    data = cuda_allocate(device, bytes);
  }
  Counters& c = counters[static_cast<int>(device.type)];
  ++c.allocations;
  const std::int64_t now = c.in_use += static_cast<std::int64_t>(bytes);
  std::int64_t peak = c.peak;
  while (now > peak && !c.peak.compare_exchange_weak(peak, now)) {
  }
  return data;
}

void* allocate_for(const std::string& what, Device device, std::size_t bytes) {
  try {
    return device_allocate(device, bytes);
  } catch (const OutOfMemory& error) {
    rethrow_out_of_memory(what, error);
  }
}

void device_free(Device device, void* data, std::size_t bytes) noexcept {
  if (data == nullptr) return;
  if (device.is_cpu()) {
    std::free(data);
  } else {
    cuda_free(device, data);
  }
  counters[static_cast<int>(device.type)].in_use -= static_cast<std::int64_t>(bytes);
}

AllocationStats allocation_stats(DeviceType type) {
  const Counters& c = counters[static_cast<int>(type)];
  return {c.allocations, c.in_use, c.peak};
}

}  // namespace witan
