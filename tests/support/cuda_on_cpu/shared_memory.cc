#include "tests/support/cuda_on_cpu/shared_memory.h"

#include <algorithm>

#include "tests/support/cuda_on_cpu/block.h"

namespace witan::cuda_on_cpu {
namespace {

constexpr unsigned char kFresh = 0xff;  // NaN in float32 and float64, -1 as an integer
constexpr unsigned char kRedZoneByte = 0xfb;
constexpr std::size_t kRedZone = 64;
constexpr std::size_t kMaxVariables = 64;

}  // namespace

SharedMemory::SharedMemory(std::size_t dynamic_bytes)
    : limit_(dynamic_bytes > kSharedBytes ? kMostSharedBytes : kSharedBytes),
      bytes_(limit_ + kMaxVariables * 2 * kRedZone, kRedZoneByte) {
  add(nullptr, dynamic_bytes, alignof(std::max_align_t));
}

void* SharedMemory::variable(const void* key, std::size_t bytes, std::size_t alignment) {
  for (const Variable& known : variables_) {
    if (known.key == key) return bytes_.data() + known.begin;
  }
  return add(key, bytes, alignment);
}

void* SharedMemory::add(const void* key, std::size_t bytes, std::size_t alignment) {
  payload_ += bytes;
  if (payload_ > limit_ || variables_.size() == kMaxVariables || alignment > kRedZone) {
    return nullptr;
  }
  const std::size_t after = variables_.empty() ? 0 : variables_.back().end + kRedZone;
  const std::size_t begin = (after + kRedZone - 1) / kRedZone * kRedZone;
  variables_.push_back({key, begin, begin + bytes});
  std::fill_n(bytes_.begin() + static_cast<std::ptrdiff_t>(begin), bytes, kFresh);
  return bytes_.data() + begin;
}

bool SharedMemory::red_zones_intact() const {
  for (std::size_t i = 0; i < variables_.size(); ++i) {
    const std::size_t begin = variables_[i].end;
    const std::size_t end = i + 1 < variables_.size() ? variables_[i + 1].begin : begin + kRedZone;
    const auto red = [](unsigned char byte) { return byte == kRedZoneByte; };
    if (!std::all_of(bytes_.begin() + static_cast<std::ptrdiff_t>(begin),
                     bytes_.begin() + static_cast<std::ptrdiff_t>(end), red)) {
      return false;
    }
  }
  return true;
}

}  // namespace witan::cuda_on_cpu
