#include "parallel/node_windows.h"

#include <unistd.h>

#include <atomic>
#include <exception>
#include <new>
#include <utility>

#include "core/base/error.h"

namespace witan {
namespace {

constexpr int kBoxes = 2;
constexpr std::size_t kLine = 64;
constexpr const char* kOperations[NodeWindows::kDirections] = {
    "exchange of the plan", "exchange of weights", "dispatch", "combine"};

// Where each rank's part begins stands in front of the parts.
std::size_t header_bytes(std::size_t ranks) {
  return (ranks * sizeof(std::int64_t) + kLine - 1) / kLine * kLine;
}

}  // namespace

// What a rank tells the others, in memory that it alone writes. The outboxes' fields change only
// when nobody reads them: between the others' last read of a box and the next post.
struct NodeWindows::Control {
  static_assert(std::atomic<std::int64_t>::is_always_lock_free, "processes share it");
  struct Box {
    std::int64_t descriptor = -1;
    std::int64_t bytes = 0;
    std::int64_t generation = 0;
    SharedBlocks::Place place;  // of rows that the message refers to
    std::int64_t rows = 0;
  };
  struct Direction {
    alignas(kLine) std::atomic<std::int64_t> posted{0};    // messages this rank has written
    alignas(kLine) std::atomic<std::int64_t> finished{0};  // messages it has read from everybody
    Box boxes[kBoxes];
  };
  std::int64_t process = 0;  // shows that the right memory was opened
  Direction directions[kDirections];
};

struct NodeWindows::Direction {
  struct Peer {
    SharedSegment boxes[kBoxes];
    std::int64_t generations[kBoxes] = {};
  };
  std::int64_t message = 0;  // number of the last one begun, from 1
  SharedSegment boxes[kBoxes];
  std::vector<Peer> peers;  // [size]

  std::size_t box() const { return static_cast<std::size_t>(message % kBoxes); }
};

std::unique_ptr<NodeWindows> NodeWindows::make(Communicator& group,
                                               std::span<const std::int64_t> node_of_rank,
                                               std::string& why_not) {
  std::unique_ptr<NodeWindows> windows(new NodeWindows(group, node_of_rank));
  std::int32_t shared = 1;
  try {
    windows->own_control_ = SharedSegment::create(sizeof(Control));
    new (windows->own_control_.data()) Control{};
  } catch (const Error& error) {
    why_not = error.what();
    shared = 0;
  }
  try {
    windows->share();
  } catch (const Error& error) {
    if (why_not.empty()) why_not = error.what();
    shared = 0;
  }
  group.all_reduce(view_of(&shared, {1}), ReduceOp::kMin).wait();
  if (shared == 0) windows.reset();
  return windows;
}

NodeWindows::NodeWindows(Communicator& group, std::span<const std::int64_t> node_of_rank)
    : group_(group), directions_(kDirections) {
  const auto size = static_cast<std::size_t>(group.size());
  const auto own = static_cast<std::size_t>(group.rank());
  WITAN_CHECK(node_of_rank.size() == size, "nodes of ", node_of_rank.size(), " ranks for ", size);
  for (std::size_t rank = 0; rank < size; ++rank) {
    reaches_.push_back(rank != own && node_of_rank[rank] == node_of_rank[own]);
  }
  controls_.resize(size);
  open_blocks_.resize(size);
  for (Direction& direction : directions_) direction.peers.resize(size);
}

NodeWindows::~NodeWindows() {
  // Others open an outbox when they first read from it. On the way out with an error they may never
  // come.
  if (own_control_.data() == nullptr || std::uncaught_exceptions() > 0) return;
  for (int direction = 0; direction < kDirections; ++direction) {
    const std::int64_t posted = control(group_.rank()).directions[direction].posted;
    for (int rank = 0; rank < group_.size(); ++rank) {
      if (!reaches(rank) || controls_[static_cast<std::size_t>(rank)].data() == nullptr) continue;
      const auto& finished = control(rank).directions[direction].finished;
      group_.wait_until(kOperations[direction], posted, [&finished, posted] {
        return finished.load(std::memory_order_acquire) >= posted;
      });
    }
  }
}

// Every rank tells its process and descriptor, and opens the others' control memory. Collective
// also for a rank that failed before: it shows a descriptor that nobody can open.
void NodeWindows::share() {
  const auto size = static_cast<std::int64_t>(controls_.size());
  std::int64_t own[2] = {getpid(), own_control_.descriptor()};
  std::vector<std::int64_t> all(2 * controls_.size());
  if (own_control_.data() != nullptr) {
    std::launder(reinterpret_cast<Control*>(own_control_.data()))->process = own[0];
  }
  group_.all_gather(view_of(own, {2}), view_of(all.data(), {2 * size})).wait();
  for (std::size_t rank = 0; rank < controls_.size(); ++rank) {
    processes_.push_back(all[2 * rank]);
    if (!reaches(static_cast<int>(rank))) continue;
    controls_[rank] = SharedSegment::open(all[2 * rank], all[2 * rank + 1], sizeof(Control));
    WITAN_CHECK(control(static_cast<int>(rank)).process == all[2 * rank], "process ids of rank ",
                rank, " mean something else here");
  }
}

const NodeWindows::Control& NodeWindows::control(int rank) const {
  const SharedSegment& memory =
      rank == group_.rank() ? own_control_ : controls_[static_cast<std::size_t>(rank)];
  return *std::launder(reinterpret_cast<const Control*>(memory.data()));
}

std::byte* NodeWindows::open(int direction, std::span<const std::int64_t> bytes) {
  Direction& state = directions_[static_cast<std::size_t>(direction)];
  auto& own = std::launder(reinterpret_cast<Control*>(own_control_.data()))->directions[direction];
  const std::int64_t message = ++state.message;
  for (int rank = 0; rank < group_.size(); ++rank) {
    if (!reaches(rank)) continue;
    const auto& finished = control(rank).directions[direction].finished;
    group_.wait_until(kOperations[direction], message, [&finished, message] {
      return finished.load(std::memory_order_acquire) >= message - kBoxes;
    });
  }
  std::size_t needed = header_bytes(bytes.size());
  const std::size_t header = needed;
  for (const std::int64_t part : bytes) needed += static_cast<std::size_t>(part);
  SharedSegment& box = state.boxes[state.box()];
  if (box.size() < needed) {
    // Half as much again: loads that grow step by step do not make a new one each time.
    constexpr std::size_t kPage = 4096;
    box = {};
    box = SharedSegment::create((needed + needed / 2 + kPage - 1) / kPage * kPage);
    Control::Box& entry = own.boxes[state.box()];
    entry.descriptor = box.descriptor();
    entry.bytes = static_cast<std::int64_t>(box.size());
    ++entry.generation;
  }
  auto* begins = reinterpret_cast<std::int64_t*>(box.data());
  auto begin = static_cast<std::int64_t>(header);
  for (std::size_t rank = 0; rank < bytes.size(); ++rank) {
    begins[rank] = begin;
    begin += bytes[rank];
  }
  return box.data() + header;
}

void NodeWindows::post(int direction) { post_rows(direction, {}); }

void NodeWindows::post_rows(int direction, const TensorView& rows) {
  const Direction& state = directions_[static_cast<std::size_t>(direction)];
  auto& own = std::launder(reinterpret_cast<Control*>(own_control_.data()))->directions[direction];
  Control::Box& box = own.boxes[state.box()];
  box.place = blocks_.find(rows.data);
  box.rows = rows.empty() ? 0 : rows.rows();
  own.posted.store(state.message, std::memory_order_release);
}

NodeWindows::Direction& NodeWindows::wait_for_message(int direction, int from) {
  Direction& state = directions_[static_cast<std::size_t>(direction)];
  const std::atomic<std::int64_t>& posted = control(from).directions[direction].posted;
  const std::int64_t message = state.message;
  group_.wait_until(kOperations[direction], message, [&posted, message] {
    return posted.load(std::memory_order_acquire) >= message;
  });
  return state;
}

const std::byte* NodeWindows::receive(int direction, int from) {
  Direction& state = wait_for_message(direction, from);
  const Control::Box& box = control(from).directions[direction].boxes[state.box()];
  Direction::Peer& peer = state.peers[static_cast<std::size_t>(from)];
  SharedSegment& mapped = peer.boxes[state.box()];
  if (peer.generations[state.box()] != box.generation) {
    mapped = {};
    mapped = SharedSegment::open(processes_[static_cast<std::size_t>(from)], box.descriptor,
                                 static_cast<std::size_t>(box.bytes));
    peer.generations[state.box()] = box.generation;
  }
  const auto* begins = reinterpret_cast<const std::int64_t*>(mapped.data());
  return mapped.data() + begins[group_.rank()];
}

TensorView NodeWindows::receive_rows(int direction, int from, const TensorView& like) {
  const Direction& state = wait_for_message(direction, from);
  const Control::Box& box = control(from).directions[direction].boxes[state.box()];
  if (box.place.descriptor < 0) return {};
  TensorView rows = like;
  rows.shape = like.shape.with_rows(box.rows);
  WITAN_CHECK(box.place.offset + static_cast<std::int64_t>(rows.bytes()) <= box.place.bytes,
              "rows of rank ", from, " do not fit into its shared memory");
  rows.data = const_cast<std::byte*>(block_of(from, box.place)) + box.place.offset;
  return rows;
}

const std::byte* NodeWindows::block_of(int rank, const SharedBlocks::Place& place) {
  OpenBlocks& open = open_blocks_[static_cast<std::size_t>(rank)];
  if (open.epoch != place.epoch) open = {place.epoch, {}, {}};
  for (std::size_t i = 0; i < open.descriptors.size(); ++i) {
    if (open.descriptors[i] == place.descriptor) return open.segments[i].data();
  }
  open.descriptors.push_back(place.descriptor);
  open.segments.push_back(SharedSegment::open(processes_[static_cast<std::size_t>(rank)],
                                              place.descriptor,
                                              static_cast<std::size_t>(place.bytes)));
  return open.segments.back().data();
}

void NodeWindows::finish(int direction) {
  auto& own = std::launder(reinterpret_cast<Control*>(own_control_.data()))->directions[direction];
  own.finished.store(directions_[static_cast<std::size_t>(direction)].message,
                     std::memory_order_release);
}

std::size_t NodeWindows::bytes() const {
  std::size_t total = 0;
  for (const Direction& direction : directions_) {
    for (const SharedSegment& box : direction.boxes) total += box.size();
  }
  return total;
}

}  // namespace witan
