// One direction of an exchange: a message of parts from every rank to every other one, through
// shared memory where it reaches and by all-to-all elsewhere. Parts are made of units (rows,
// weights) whose number both sides know; on the network a unit may be smaller than in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/profile.h"
#include "core/tensor/arena.h"
#include "parallel/communicator.h"
#include "parallel/node_windows.h"

namespace witan {

class PartTransfer {
 public:
  // `windows` null: all-to-all only. `direction` is the windows'. Both must outlive this.
  PartTransfer(Communicator& group, NodeWindows* windows, int direction, const char* name);

  // Bytes of a unit (multiples of 4) in shared memory and on the network.
  struct Unit {
    std::int64_t near_bytes, far_bytes;
  };
  // Memory for send[rank] units for every rank. This rank's own part is never sent; it gets memory
  // only where all parts lie together. `rows`, unless empty: where the units can be read instead;
  // if the ranks of the node see them there, they need no parts.
  void open(const Unit& unit, std::span<const std::int64_t> send, const TensorView& rows = {});
  // Whether a part for this rank has to be written, and goes over the network.
  bool needs_part(int rank) const { return far(rank) || (near(rank) && rows_.empty()); }
  bool far(int rank) const { return rank != group_.rank() && !near(rank); }
  std::byte* part_for(int rank);
  // Where parts for all ranks, this one included, could be written one behind the other by rank, to
  // be read there by the ranks of this node; null without windows. Those for ranks elsewhere still
  // have to be copied to part_for().
  std::byte* all_parts() const { return box_; }
  // The parts are written; recv[rank] units will come.
  void send(std::span<const std::int64_t> recv);
  // The part that came from another rank; waits for it.
  const std::byte* part_from(int rank);
  // Or the rows that it showed, as a tensor like `like`; empty if it wrote a part.
  TensorView rows_from(int rank, const TensorView& like);
  // Everything that came was used.
  void close();

  bool is_open() const { return open_; }
  std::size_t buffer_bytes() const { return buffers_.bytes_reserved(); }

 private:
  bool near(int rank) const { return windows_ != nullptr && windows_->reaches(rank); }
  void check_open() const;
  TensorView allocate(std::span<const std::int64_t> units);

  Communicator& group_;
  NodeWindows* windows_;
  int direction_;
  const char* name_;
  bool any_far_ = false;
  bool open_ = false;
  Unit unit_ = {};
  TensorView rows_;                        // shown instead of parts
  std::byte* box_ = nullptr;               // the outbox
  std::vector<std::int64_t> send_, recv_;  // [ranks] units by all-to-all: 0 for the others
  std::vector<std::int64_t> part_bytes_;   // [ranks] in the outbox
  Arena buffers_;                          // of the all-to-all
  TensorView outgoing_, incoming_;         // [units, far_bytes / 4] int32
  Request request_;
  ProfileTransfer profile_;  // of what goes through the windows
};

}  // namespace witan
