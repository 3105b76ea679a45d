#include "core/tensor/arena.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "core/base/current_layer.h"
#include "core/tensor/allocator.h"
#include "core/tensor/arena_guard.h"
#include "core/tensor/device_memory.h"

namespace witan {
namespace {

constexpr std::size_t kFirstBlock = std::size_t{1} << 20;
Arena::GrowthLog growth_log = nullptr;
std::atomic<std::int64_t> generations = 0;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

}  // namespace

void Arena::set_growth_log(GrowthLog log) { growth_log = log; }

Arena::Arena(Device device, std::string name, BlockSource* source)
    : device_(device), name_(std::move(name)), source_(source) {}

Arena::~Arena() { free_blocks(); }

void Arena::free_blocks() noexcept {
  for (const Block& block : blocks_) {
    if (source_ != nullptr) {
      source_->release(block.data);
    } else {
      device_free(device_, block.data, block.capacity);
    }
  }
  blocks_.clear();
  generation_ = ++generations;
}

std::size_t Arena::bytes_reserved() const {
  std::size_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.capacity;
  return bytes;
}

void Arena::add_block(std::size_t bytes, const char* label) {
  const std::size_t least = aligned(bytes);
  // Doubling keeps the number of growths logarithmic.
  std::size_t capacity = std::max({least, kFirstBlock, bytes_reserved()});
  void* data = nullptr;
  while (data == nullptr) {
    try {
      data = source_ != nullptr ? source_->allocate(capacity) : device_allocate(device_, capacity);
    } catch (const OutOfMemory& error) {
      // More at once is only for speed: with memory nearly full it is less.
      if (capacity > least) {
        capacity = std::max(least, aligned(capacity / 2));
        continue;
      }
      const int layer = current_layer();
      rethrow_out_of_memory(
          detail::concat(name_, " (", layer < 0 ? "" : detail::concat("layer ", layer, ", "), label,
                         ')'),
          error);
    }
  }
  blocks_.push_back({data, capacity});
  generation_ = ++generations;
  if (growth_log != nullptr) {
    growth_log(name_.c_str(), current_layer(), label, capacity, bytes_reserved());
  }
}

TensorView Arena::allocate(const Shape& shape, DType dtype, const char* label) {
  TensorView view{nullptr, shape, dtype, device_};
  const std::size_t guard = device_.is_cuda() ? arena_guard_bytes() : 0;
  const std::size_t bytes = std::max(aligned(view.bytes()), kTensorAlignment) + guard;
  if (blocks_.empty()) {
    add_block(bytes, label);
  }
  while (used_ + bytes > blocks_[current_].capacity) {
    if (current_ + 1 == blocks_.size()) add_block(bytes, label);
    ++current_;
    used_ = 0;
  }
  view.data = static_cast<std::byte*>(blocks_[current_].data) + used_;
  used_ += bytes;
  total_ += bytes;
  high_water_ = std::max(high_water_, total_);
  if (device_.is_cuda()) arena_hands_out(view.data, view.bytes(), bytes);
  return view;
}

Arena::Mark Arena::mark() const { return {current_, used_, total_}; }

void Arena::rewind(const Mark& mark) {
  current_ = mark.block;
  used_ = mark.used;
  total_ = mark.total;
}

void Arena::reset() {
  if (blocks_.size() > 1) {
    free_blocks();
    // A little slack: fragmentation at block ends does not count in the high-water mark.
    try {
      add_block(high_water_ + high_water_ / 16, "merge");
    } catch (const OutOfMemory&) {
      add_block(high_water_, "merge");
    }
  }
  current_ = used_ = total_ = 0;
}

}  // namespace witan
