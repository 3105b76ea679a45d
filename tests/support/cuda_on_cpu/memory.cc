#include "tests/support/cuda_on_cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <sstream>

#include "tests/support/cuda_on_cpu/control.h"
#include "tests/support/cuda_on_cpu/cuda_runtime.h"
#include "tests/support/cuda_on_cpu/fault.h"
#include "tests/support/cuda_on_cpu/streams.h"

namespace witan::cuda_on_cpu {
namespace {

constexpr std::size_t kRegionBytes = std::size_t{512} << 20;
constexpr std::size_t kUsualBytes = std::size_t{256} << 20;  // of a GPU
constexpr std::size_t kAlignment = 256;                      // of every address from cudaMalloc
constexpr std::size_t kRedZone = kAlignment;  // on each side; the upper one begins at the last byte
constexpr std::uint32_t kFreshPattern = 0xfff7deadu;
constexpr std::uint32_t kRedZonePattern = 0x7ff7a5a5u;

unsigned char byte_of(std::uint32_t pattern, std::size_t offset) {
  return static_cast<unsigned char>(pattern >> (8 * (offset % 4)));
}

class DeviceMemory {
 public:
  DeviceMemory()
      : base_(
            static_cast<unsigned char*>(mmap(nullptr, kRegionBytes, PROT_NONE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    if (base_ == MAP_FAILED) std::abort();
  }

  void open() {
    if (open_count_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    if (--open_count_ == 0) protect(PROT_NONE);
  }

  bool contains(const void* address) const {
    return address >= base_ && address < base_ + kRegionBytes;
  }

  bool is_allocated(const void* data, std::size_t bytes) const {
    if (!contains(data)) return false;
    const std::size_t begin =
        static_cast<std::size_t>(static_cast<const unsigned char*>(data) - base_);
    auto next = allocations_.upper_bound(begin);
    if (next == allocations_.begin()) return false;
    const auto& [start, size] = *std::prev(next);
    return begin < start + size && begin + bytes <= start + size;
  }

  // First fit; null if there is no room.
  void* allocate(std::size_t bytes) {
    if (bytes > bytes_free()) return nullptr;
    std::size_t begin = kRedZone;
    for (const auto& [start, size] : allocations_) {
      if (upper_red_zone_end(begin, bytes) + kRedZone <= start) break;
      begin = upper_red_zone_end(start, size) + kRedZone;
    }
    if (begin + bytes + 2 * kRedZone > kRegionBytes) return nullptr;
    allocations_[begin] = bytes;
    const DeviceMemoryOpen opened;
    for (std::size_t i = begin - kRedZone; i < upper_red_zone_end(begin, bytes); ++i) {
      base_[i] = byte_of(i >= begin && i < begin + bytes ? kFreshPattern : kRedZonePattern, i);
    }
    return base_ + begin;
  }

  bool free(void* data) {
    if (!contains(data)) return false;
    const auto found = allocations_.find(offset_of(data));
    if (found == allocations_.end()) return false;
    drop_zones(found->first, found->first + found->second);
    allocations_.erase(found);
    return true;
  }

  // Red zones inside allocations, between the tensors of an arena.
  void renew(void* data, std::size_t bytes, std::size_t reserved) {
    const std::size_t begin = offset_of(data);
    drop_zones(begin, begin + reserved);
    const DeviceMemoryOpen opened;
    for (std::size_t i = begin; i < begin + reserved; ++i) {
      base_[i] = byte_of(i < begin + bytes ? kFreshPattern : kRedZonePattern, i);
    }
    zones_[begin + bytes] = {begin + reserved, bytes};
  }

  void check_red_zones(const std::string& after) {
    const DeviceMemoryOpen opened;
    for (const auto& [start, size] : allocations_) {
      check_red_zone(start - kRedZone, start, start, size, after);
      check_red_zone(start + size, upper_red_zone_end(start, size), start, size, after);
    }
    for (const auto& [begin, zone] : zones_) {
      check_red_zone(begin, zone.end, begin - zone.bytes, zone.bytes, after);
    }
  }

  std::size_t count() const { return allocations_.size(); }
  std::size_t bytes_free() const {
    std::size_t used = 0;
    for (const auto& [start, size] : allocations_) used += size;
    return limit_ - std::min(used, limit_);
  }
  std::size_t limit() const { return limit_; }
  void set_limit(std::size_t bytes) { limit_ = std::min(bytes, kUsualBytes); }

 private:
  struct Zone {
    std::size_t end;
    std::size_t bytes;  // of the tensor before it
  };

  std::size_t offset_of(const void* data) const {
    return static_cast<std::size_t>(static_cast<const unsigned char*>(data) - base_);
  }
  // Those that reach into [begin, end).
  void drop_zones(std::size_t begin, std::size_t end) {
    auto zone = zones_.lower_bound(begin);
    if (zone != zones_.begin() && std::prev(zone)->second.end > begin) --zone;
    while (zone != zones_.end() && zone->first < end) zone = zones_.erase(zone);
  }

  static std::size_t upper_red_zone_end(std::size_t start, std::size_t size) {
    return (start + size + kAlignment - 1) / kAlignment * kAlignment + kRedZone;
  }

  void protect(int access) {
    if (mprotect(base_, kRegionBytes, access) != 0) std::abort();
  }

  void check_red_zone(std::size_t begin, std::size_t end, std::size_t start, std::size_t size,
                      const std::string& after) {
    for (std::size_t i = begin; i < end; ++i) {
      if (base_[i] == byte_of(kRedZonePattern, i)) continue;
      const std::string where = i < start
                                    ? std::to_string(start - i) + " bytes before the beginning"
                                    : std::to_string(i - start - size) + " bytes past the end";
      report_fault(cudaErrorIllegalAddress, after + ": a write " + where + " of an allocation of " +
                                                std::to_string(size) + " bytes");
      for (; i < end; ++i) base_[i] = byte_of(kRedZonePattern, i);
    }
  }

  unsigned char* base_;
  std::map<std::size_t, std::size_t> allocations_;  // offset of the first byte -> bytes
  std::map<std::size_t, Zone> zones_;               // by their first byte
  std::size_t limit_ = kUsualBytes;
  int open_count_ = 0;
};

// Never destroyed: tensors of static lifetime may be freed late.
DeviceMemory& memory() {
  static DeviceMemory& instance = *new DeviceMemory;
  return instance;
}

std::size_t initial_pinned_limit() {
  const char* bytes = std::getenv("WITAN_STAND_IN_PINNED_MEMORY");
  return bytes == nullptr ? SIZE_MAX : std::strtoull(bytes, nullptr, 10);
}
std::size_t pinned_limit = initial_pinned_limit();

// Pinned host memory: address -> bytes.
std::map<const void*, std::size_t>& pinned() {
  static auto& instance = *new std::map<const void*, std::size_t>;
  return instance;
}

}  // namespace

DeviceMemoryOpen::DeviceMemoryOpen() { memory().open(); }
DeviceMemoryOpen::~DeviceMemoryOpen() { memory().close(); }

bool is_pinned(const void* address) {
  auto next = pinned().upper_bound(address);
  if (next == pinned().begin()) return false;
  const auto& [begin, bytes] = *std::prev(next);
  return address < static_cast<const char*>(begin) + bytes;
}

void set_device_memory(std::size_t bytes) { memory().set_limit(bytes); }
void set_pinned_memory(std::size_t bytes) { pinned_limit = bytes; }
std::size_t pinned_memory_in_use() {
  std::size_t used = 0;
  for (const auto& [address, size] : pinned()) used += size;
  return used;
}

void use_memory_of(int device) {
  static const char* const list = std::getenv("WITAN_STAND_IN_GPU_MEMORY");
  if (list == nullptr) return;
  std::istringstream entries(list);
  std::string entry;
  for (int i = 0; i <= device && std::getline(entries, entry, ','); ++i) {
    memory().set_limit(std::stoull(entry));
  }
}

void renew(void* data, std::size_t bytes, std::size_t reserved) {
  memory().renew(data, bytes, reserved);
}

bool is_device_address(const void* address) { return memory().contains(address); }
bool is_allocated(const void* data, std::size_t bytes) {
  return memory().is_allocated(data, bytes);
}
void check_red_zones(const std::string& after) { memory().check_red_zones(after); }
std::size_t live_allocations() { return memory().count(); }

bool check_pointer_argument(std::size_t position, const void* pointer) {
  if (pointer == nullptr || is_allocated(pointer, 1)) return true;
  report_fault(
      cudaErrorIllegalAddress,
      "argument " + std::to_string(position) + " of a kernel points to " +
          (is_device_address(pointer) ? "device memory that is not allocated" : "host memory"));
  return false;
}

}  // namespace witan::cuda_on_cpu

using namespace witan::cuda_on_cpu;

cudaError_t cudaMallocHost(void** data, std::size_t bytes) {
  const std::size_t used = pinned_memory_in_use();
  if (bytes > pinned_limit - std::min(used, pinned_limit)) return cudaErrorMemoryAllocation;
  *data = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  pinned()[*data] = bytes;
  return fault_status();
}

cudaError_t cudaFreeHost(void* data) {
  if (data != nullptr && pinned().erase(data) == 0) return cudaErrorInvalidValue;
  std::free(data);
  return fault_status();
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  if (fault_status() != cudaSuccess) return fault_status();
  if (forbidden_in_capture("cudaMalloc")) return fault_status();
  *data = bytes == 0 ? nullptr : memory().allocate(bytes);
  return bytes == 0 || *data != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

// As on a GPU, freeing waits for everything that is enqueued.
cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  if (forbidden_in_capture("cudaFree")) return fault_status();
  run_everything();
  memory().check_red_zones("cudaFree");
  if (!memory().free(data)) {
    report_fault(cudaErrorInvalidValue, "cudaFree of an address that is not an allocation");
  }
  return fault_status();
}

cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  *available = memory().bytes_free();
  *total = memory().limit();
  return fault_status();
}
