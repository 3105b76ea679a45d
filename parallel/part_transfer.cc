#include "parallel/part_transfer.h"

#include "core/base/error.h"

namespace witan {
namespace {

std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

std::byte* first_unit(const TensorView& units, std::span<const std::int64_t> counts, int rank) {
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
  for (int rank = 0; rank < group.size(); ++rank) any_far_ = any_far_ || far(rank);
}

void PartTransfer::check_open() const {
  WITAN_CHECK(open_, "the end of a transfer that has not begun: ", name_);
}

void PartTransfer::open(const Unit& unit, std::span<const std::int64_t> send,
                        const TensorView& rows) {
  WITAN_CHECK(!open_, "a transfer of this direction is already on its way: ", name_);
  WITAN_CHECK(unit.near_bytes % 4 == 0 && unit.far_bytes % 4 == 0, name_, ": units of ",
              unit.near_bytes, " and ", unit.far_bytes, " bytes");
  open_ = true;
  unit_ = unit;
  const bool shown = windows_ != nullptr && windows_->blocks().find(rows.data).descriptor >= 0;
  rows_ = shown ? rows : TensorView{};
  for (int rank = 0; rank < group_.size(); ++rank) {
    part_bytes_[at(rank)] = shown ? 0 : send[at(rank)] * unit.near_bytes;
    send_[at(rank)] = far(rank) ? send[at(rank)] : 0;
  }
  if (windows_ != nullptr) box_ = windows_->open(direction_, part_bytes_);
  if (any_far_) outgoing_ = allocate(send_);
}

TensorView PartTransfer::allocate(std::span<const std::int64_t> units) {
  std::int64_t total = 0;
  for (const std::int64_t count : units) total += count;
  return buffers_.allocate({total, unit_.far_bytes / 4}, DType::kInt32, name_);
}

std::byte* PartTransfer::part_for(int rank) {
  if (far(rank)) return first_unit(outgoing_, send_, rank);
  std::byte* part = box_;
  for (int before = 0; before < rank; ++before) part += part_bytes_[at(before)];
  return part;
}

void PartTransfer::send(std::span<const std::int64_t> recv) {
  std::int64_t bytes = 0;
  for (int rank = 0; rank < group_.size(); ++rank) {
    recv_[at(rank)] = far(rank) ? recv[at(rank)] : 0;
    if (near(rank)) bytes += part_bytes_[at(rank)];
  }
  if (windows_ != nullptr) {
    profile_.start(bytes);
    windows_->post_rows(direction_, rows_);
  }
  if (!any_far_) return;
  incoming_ = allocate(recv_);
  request_ = group_.all_to_all_v(outgoing_, send_, incoming_, recv_);
}

const std::byte* PartTransfer::part_from(int rank) {
  check_open();
  if (near(rank)) return windows_->receive(direction_, rank);
  request_.wait();
  return first_unit(incoming_, recv_, rank);
}

TensorView PartTransfer::rows_from(int rank, const TensorView& like) {
  check_open();
  return near(rank) ? windows_->receive_rows(direction_, rank, like) : TensorView{};
}

void PartTransfer::close() {
  check_open();
  request_.wait();
  if (windows_ != nullptr) {
    windows_->finish(direction_);
    profile_.finish(name_, group_.name().c_str());
  }
  buffers_.reset();
  open_ = false;
}

}  // namespace witan
