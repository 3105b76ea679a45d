#include "parallel/part_transfer.h"

#include <algorithm>

#include "core/base/error.h"

namespace witan {
namespace {

std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

std::byte* unit(const TensorView& units, std::span<const std::int64_t> counts, int rank) {
  std::int64_t begin = 0;
  for (int before = 0; before < rank; ++before) begin += counts[at(before)];
  return static_cast<std::byte*>(units.data) + begin * units.shape[1] * 4;
}

}  // namespace

PartTransfer::PartTransfer(Communicator& group, NodeWindows* windows, int direction,
                           const char* name)
    : group_(group),
      windows_(windows),
      direction_(direction),
      name_(name),
      send_(at(group.size())),
      recv_(at(group.size())),
      part_bytes_(at(group.size())),
      buffers_(Device{}, name) {
  for (int rank = 0; rank < group.size(); ++rank) any_remote_ = any_remote_ || remote(rank);
}

void PartTransfer::open(std::int64_t unit_bytes, std::span<const std::int64_t> send) {
  WITAN_CHECK(!open_, "a transfer of this direction is already on its way: ", name_);
  WITAN_CHECK(unit_bytes > 0 && unit_bytes % 4 == 0, name_, ": units of ", unit_bytes, " bytes");
  open_ = true;
  unit_bytes_ = unit_bytes;
  for (int rank = 0; rank < group_.size(); ++rank) {
    part_bytes_[at(rank)] = send[at(rank)] * unit_bytes;
    send_[at(rank)] = remote(rank) ? send[at(rank)] : 0;
  }
  if (windows_ != nullptr) box_ = windows_->open(direction_, part_bytes_);
  if (any_remote_) outgoing_ = allocate(send_);
}

TensorView PartTransfer::allocate(std::span<const std::int64_t> units) {
  std::int64_t total = 0;
  for (const std::int64_t count : units) total += count;
  return buffers_.allocate({total, unit_bytes_ / 4}, DType::kInt32, name_);
}

std::byte* PartTransfer::part_for(int rank) {
  if (remote(rank)) return unit(outgoing_, send_, rank);
  std::byte* part = box_;
  for (int before = 0; before < rank; ++before) part += part_bytes_[at(before)];
  return part;
}

void PartTransfer::send(std::span<const std::int64_t> recv) {
  std::int64_t bytes = 0;
  for (int rank = 0; rank < group_.size(); ++rank) {
    recv_[at(rank)] = remote(rank) ? recv[at(rank)] : 0;
    if (in_window(rank)) bytes += part_bytes_[at(rank)];
  }
  if (windows_ != nullptr) {
    profile_.start(bytes);
    windows_->post(direction_);
  }
  if (!any_remote_) return;
  incoming_ = allocate(recv_);
  request_ = group_.all_to_all_v(outgoing_, send_, incoming_, recv_);
}

const std::byte* PartTransfer::part_from(int rank) {
  WITAN_CHECK(open_, "the end of a transfer that has not begun: ", name_);
  if (in_window(rank)) return windows_->receive(direction_, rank);
  request_.wait();
  return unit(incoming_, recv_, rank);
}

void PartTransfer::close() {
  WITAN_CHECK(open_, "the end of a transfer that has not begun: ", name_);
  request_.wait();
  if (windows_ != nullptr) {
    windows_->finish(direction_);
    profile_.finish(name_, group_.name().c_str());
  }
  buffers_.reset();
  open_ = false;
}

}  // namespace witan
