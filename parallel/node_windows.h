// Messages between the ranks of one node through shared memory. Each rank writes its parts for all
// others into an outbox of its own and says so; the others read their parts where they lie. Rows
// that lie in shared blocks need not be written again: the message says where they are. No rank
// ever writes into another one's memory.
//
// A direction is a sequence of messages, each to all other ranks of the node. It has two outboxes
// in turn, so that a message can be written while the one before is being read; they grow when a
// message does not fit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/shared_blocks.h"
#include "parallel/shared_segment.h"

namespace witan {

class NodeWindows {
 public:
  static constexpr int kDirections = 4;

  // Collective over the group. node_of_rank [size]. Null, on every rank, where some rank cannot
  // read the memory of another one of its node; why_not then says where and why (at one of them, at
  // least). The group must outlive the windows.
  static std::unique_ptr<NodeWindows> make(Communicator& group,
                                           std::span<const std::int64_t> node_of_rank,
                                           std::string& why_not);
  // Waits until the others have read everything.
  ~NodeWindows();
  NodeWindows(const NodeWindows&) = delete;
  NodeWindows& operator=(const NodeWindows&) = delete;

  // Whether messages to that rank go through here; not to this rank itself.
  bool reaches(int rank) const { return reaches_[static_cast<std::size_t>(rank)]; }

  // Memory for rows that messages refer to.
  SharedBlocks& blocks() { return blocks_; }

  // Begins the next message of a direction: memory for parts of bytes[rank] (multiples of 4), one
  // behind the other by rank. Waits until the others have read the message before the last. Parts
  // for ranks out of reach just take space.
  std::byte* open(int direction, std::span<const std::int64_t> bytes);
  // The parts are written; or everything that the others want lies at rows [rows, ...], in
  // blocks().
  void post(int direction);
  void post_rows(int direction, const TensorView& rows);
  // This rank's part of another one's message with the same number; waits for it.
  const std::byte* receive(int direction, int from);
  // The rows of post_rows() in its place, as a tensor like `like` of however many rows; an empty
  // view if the other one wrote parts.
  TensorView receive_rows(int direction, int from, const TensorView& like);
  // All parts of this message were read.
  void finish(int direction);

  std::size_t bytes() const;  // of this rank's outboxes

 private:
  struct Control;
  struct Direction;
  NodeWindows(Communicator& group, std::span<const std::int64_t> node_of_rank);
  void share();
  const Control& control(int rank) const;
  Direction& wait_for_message(int direction, int from);
  const std::byte* block_of(int rank, const SharedBlocks::Place& place);

  Communicator& group_;
  std::vector<bool> reaches_;
  std::vector<std::int64_t> processes_;  // [size] ids
  SharedSegment own_control_;
  std::vector<SharedSegment> controls_;  // [size], of those in reach
  std::vector<Direction> directions_;
  SharedBlocks blocks_;
  // What this rank has opened of another one's blocks.
  struct OpenBlocks {
    std::int64_t epoch = 0;
    std::vector<std::int64_t> descriptors;
    std::vector<SharedSegment> segments;
  };
  std::vector<OpenBlocks> open_blocks_;  // [size]
};

}  // namespace witan
