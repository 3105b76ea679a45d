#include "parallel/shared_blocks.h"

#include <algorithm>
#include <functional>

namespace witan {

void* SharedBlocks::allocate(std::size_t bytes) {
  segments_.push_back(SharedSegment::create(bytes));
  return segments_.back().data();
}

void SharedBlocks::release(void* data) noexcept {
  const auto found = std::find_if(segments_.begin(), segments_.end(),
                                  [&](const SharedSegment& s) { return s.data() == data; });
  if (found == segments_.end()) return;
  segments_.erase(found);
  ++epoch_;  // descriptors are given out again
}

SharedBlocks::Place SharedBlocks::find(const void* data) const {
  const auto* address = static_cast<const std::byte*>(data);
  const std::less<> before;
  for (const SharedSegment& s : segments_) {
    if (before(address, s.data()) || !before(address, s.data() + s.size())) continue;
    return {s.descriptor(), static_cast<std::int64_t>(s.size()), address - s.data(), epoch_};
  }
  return {};
}

}  // namespace witan
