#include <atomic>
#include <cstdlib>

#include "core/base/error.h"
#include "core/tensor/allocator.h"
#include "core/tensor/allocator_cuda.h"

namespace witan {
namespace {

struct Counters {
  std::atomic<std::int64_t> allocations{0};
  std::atomic<std::int64_t> in_use{0};
  std::atomic<std::int64_t> peak{0};
};
Counters counters[2];

}  // namespace

void* device_allocate(Device device, std::size_t bytes) {
  void* data = nullptr;
  if (device.is_cpu()) {
    const std::size_t padded = (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
    data = std::aligned_alloc(kTensorAlignment, padded == 0 ? kTensorAlignment : padded);
    WITAN_CHECK(data != nullptr, "out of memory: ", bytes, " bytes asked for on the CPU");
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
