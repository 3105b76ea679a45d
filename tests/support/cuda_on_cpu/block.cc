#include "tests/support/cuda_on_cpu/block.h"

#include <cstring>
#include <deque>
#include <exception>
#include <numeric>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "tests/support/cuda_on_cpu/fault.h"
#include "tests/support/cuda_on_cpu/fiber.h"
#include "tests/support/cuda_on_cpu/memory.h"
#include "tests/support/cuda_on_cpu/shared_memory.h"

namespace witan::cuda_on_cpu {

uint3 current_thread_index{}, current_block_index{};
dim3 current_block_extent{}, current_grid_extent{};

namespace {

constexpr unsigned kWarp = 32;

struct KernelStopped {};  // unwinds a thread whose block has a fault

bool same_site(const Site& a, const Site& b) {
  return a.line() == b.line() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

// A copy that has not happened yet.
struct Copy {
  void* to;
  const void* from;  // null: zeros
  std::size_t bytes;
};

struct Thread {
  enum class State { kReady, kAtBlockBarrier, kAtWarpOperation, kEnded };

  uint3 index{};
  State state = State::kReady;
  Site site;                      // of the barrier or warp operation where it waits
  unsigned mask = 0;              // of the warp operation
  int source = 0;                 // lane whose value it asks for
  std::uint64_t value = 0;        // handed in, then received
  const void* operand = nullptr;  // handed in to a gather; else null
  std::size_t operand_bytes = 0;
  std::vector<Copy> open_copies;
  std::deque<std::vector<Copy>> copy_groups;
};

// A fiber for each thread of a block, kept from launch to launch; never destroyed, so that nothing
// has to be unwound at exit.
std::deque<Fiber>& fibers() {
  static std::deque<Fiber>& pool = *new std::deque<Fiber>;
  return pool;
}

class Block {
 public:
  Block(const LaunchShape& shape, const std::function<void()>& body, RandomOrder& order,
        std::string name)
      : shared_(shape.shared_bytes), body_(body), order_(order), name_(std::move(name)) {
    const dim3& extent = shape.block;
    for (unsigned z = 0; z < extent.z; ++z) {
      for (unsigned y = 0; y < extent.y; ++y) {
        for (unsigned x = 0; x < extent.x; ++x) threads_.emplace_back().index = {x, y, z};
      }
    }
    gathered_.resize((threads_.size() + kWarp - 1) / kWarp);
    while (fibers().size() < threads_.size()) fibers().emplace_back();
  }

  bool run();
  void wait_at_barrier(const Site& site);
  std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, const Site& site);
  const std::byte* gather(const void* own, std::size_t bytes, const Site& site);
  void copy_later(void* to, const void* from, std::size_t bytes, bool valid, const Site& site);
  void commit_copies();
  void wait_for_copies(std::size_t n);
  int lane() const { return static_cast<int>(running_ % kWarp); }
  SharedMemory& shared() { return shared_; }
  [[noreturn]] void fail(const std::string& what);

 private:
  void run_thread_body();
  void step(std::size_t thread);
  void suspend(Thread::State state, const Site& site);
  void meet(unsigned mask, const Site& site);
  void release_barrier();
  void complete_warp_operation(unsigned mask);
  void set_fault(const std::string& what);
  void stop_all();
  std::size_t first_of_warp() const { return running_ / kWarp * kWarp; }

  std::vector<Thread> threads_;
  std::vector<std::vector<std::byte>> gathered_;  // of each warp
  std::vector<std::size_t> ready_;
  std::size_t running_ = 0;
  SharedMemory shared_;
  const std::function<void()>& body_;
  RandomOrder& order_;
  std::string name_;
  bool faulty_ = false;
};

Block* current_block = nullptr;

void Block::set_fault(const std::string& what) {
  if (faulty_) return;
  faulty_ = true;
  const uint3& block = current_block_index;
  report_fault(cudaErrorLaunchFailure, detail::concat(name_, ", block [", block.x, ", ", block.y,
                                                      ", ", block.z, "]: ", what));
}

void Block::fail(const std::string& what) {
  set_fault(what);
  throw KernelStopped{};
}

void Block::run_thread_body() {
  try {
    body_();
  } catch (const KernelStopped&) {
  } catch (const std::exception& error) {
    set_fault(std::string("a kernel threw: ") + error.what());
  }
}

// Runs one thread up to its next wait or its end.
void Block::step(std::size_t thread) {
  running_ = thread;
  current_thread_index = threads_[thread].index;
  Fiber& fiber = fibers()[thread];
  static const std::function<void()> run_body = [] { current_block->run_thread_body(); };
  if (fiber.ended()) {
    fiber.start(run_body);
  } else {
    fiber.resume();
  }
  if (fiber.ended()) threads_[thread].state = Thread::State::kEnded;
}

bool Block::run() {
  current_block = this;
  ready_.resize(threads_.size());
  std::iota(ready_.begin(), ready_.end(), std::size_t{0});
  while (!ready_.empty() && !faulty_) {
    std::swap(ready_[order_.below(ready_.size())], ready_.back());
    const std::size_t thread = ready_.back();
    ready_.pop_back();
    step(thread);
    if (ready_.empty() && !faulty_) release_barrier();
  }
  if (faulty_) stop_all();
  if (!shared_.red_zones_intact()) set_fault("a write past a variable in shared memory");
  current_block = nullptr;
  return !faulty_;
}

// No thread can go on by itself: either all wait at one barrier, or all have ended, or it is a
// fault.
void Block::release_barrier() {
  std::size_t waiting = 0;
  const Thread* first = nullptr;
  for (const Thread& thread : threads_) {
    if (thread.state == Thread::State::kAtWarpOperation) {
      return set_fault("a warp operation" + at(thread.site) +
                       " waits for lanes of its mask that never come");
    }
    if (thread.state != Thread::State::kAtBlockBarrier) continue;
    ++waiting;
    if (first == nullptr) first = &thread;
    if (!same_site(first->site, thread.site)) {
      return set_fault("divergent barrier: threads of one block wait" + at(first->site) + " and" +
                       at(thread.site));
    }
  }
  if (waiting == 0) return;
  if (waiting < threads_.size()) {
    return set_fault("divergent barrier: " + std::to_string(waiting) + " of " +
                     std::to_string(threads_.size()) + " threads wait" + at(first->site) +
                     ", the others have ended");
  }
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    threads_[i].state = Thread::State::kReady;
    ready_.push_back(i);
  }
}

// Unwinds the threads that wait, so that their fibers can be used again.
void Block::stop_all() {
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    while (!fibers()[i].ended()) step(i);
  }
}

void Block::suspend(Thread::State state, const Site& site) {
  const std::size_t self = running_;
  threads_[self].state = state;
  threads_[self].site = site;
  fibers()[self].yield();
  if (faulty_) throw KernelStopped{};
}

void Block::wait_at_barrier(const Site& site) { suspend(Thread::State::kAtBlockBarrier, site); }

std::uint64_t Block::exchange(unsigned mask, std::uint64_t value, int source, const Site& site) {
  Thread& self = threads_[running_];
  self.value = value;
  self.source = source;
  self.operand = nullptr;
  if (source < 0 || source >= static_cast<int>(kWarp) || (mask >> source & 1u) == 0) {
    fail("a shuffle" + at(site) + " reads from lane " + std::to_string(source) +
         ", which is outside its mask");
  }
  meet(mask, site);
  return self.value;
}

const std::byte* Block::gather(const void* own, std::size_t bytes, const Site& site) {
  Thread& self = threads_[running_];
  self.operand = own;
  self.operand_bytes = bytes;
  const std::size_t warp = running_ / kWarp;
  meet(0xffffffffu, site);
  return gathered_[warp].data();
}

// Waits for the other lanes of the mask; the last one to come completes the operation of all.
void Block::meet(unsigned mask, const Site& site) {
  Thread& self = threads_[running_];
  self.mask = mask;
  self.site = site;
  if ((mask >> lane() & 1u) == 0)
    fail("a lane outside its own mask calls the operation" + at(site));
  bool complete = true;
  for (unsigned other = 0; other < kWarp; ++other) {
    if ((mask >> other & 1u) == 0 || static_cast<int>(other) == lane()) continue;
    const std::size_t index = first_of_warp() + other;
    if (index >= threads_.size() || threads_[index].state == Thread::State::kEnded) {
      fail("the mask of the operation" + at(site) + " names lane " + std::to_string(other) +
           ", which does not exist or has ended");
    }
    const Thread& thread = threads_[index];
    if (thread.state != Thread::State::kAtWarpOperation) {
      complete = false;
      break;
    }
    if (thread.mask != mask || !same_site(thread.site, site)) {
      fail("lanes of one warp meet in different operations:" + at(site) + " and" + at(thread.site));
    }
  }
  if (complete) {
    complete_warp_operation(mask);
  } else {
    suspend(Thread::State::kAtWarpOperation, site);
  }
}

// The running thread came last: hands out the values and makes the others ready.
void Block::complete_warp_operation(unsigned mask) {
  if (threads_[running_].operand != nullptr) {
    std::vector<std::byte>& all = gathered_[running_ / kWarp];
    const std::size_t bytes = threads_[running_].operand_bytes;
    all.resize(kWarp * bytes);
    for (unsigned i = 0; i < kWarp; ++i) {
      std::memcpy(all.data() + i * bytes, threads_[first_of_warp() + i].operand, bytes);
    }
  }
  std::uint64_t values[kWarp] = {};
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((mask >> i & 1u) != 0) values[i] = threads_[first_of_warp() + i].value;
  }
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((mask >> i & 1u) == 0) continue;
    Thread& thread = threads_[first_of_warp() + i];
    thread.value = values[thread.source];
    if (static_cast<int>(i) == lane()) continue;
    thread.state = Thread::State::kReady;
    ready_.push_back(first_of_warp() + i);
  }
}

void Block::copy_later(void* to, const void* from, std::size_t bytes, bool valid,
                       const Site& site) {
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 ||
      reinterpret_cast<std::uintptr_t>(from) % bytes != 0) {
    fail("an asynchronous copy of " + std::to_string(bytes) + " bytes" + at(site) +
         " from or to an address that is no multiple of them");
  }
  if (valid && !is_allocated(from, bytes)) {
    fail("an asynchronous copy" + at(site) + " reads outside of every allocation");
  }
  threads_[running_].open_copies.push_back({to, valid ? from : nullptr, bytes});
}

void Block::commit_copies() {
  Thread& self = threads_[running_];
  self.copy_groups.push_back(std::move(self.open_copies));
  self.open_copies.clear();
}

void Block::wait_for_copies(std::size_t n) {
  std::deque<std::vector<Copy>>& groups = threads_[running_].copy_groups;
  for (; groups.size() > n; groups.pop_front()) {
    for (const Copy& copy : groups.front()) {
      if (copy.from == nullptr) {
        std::memset(copy.to, 0, copy.bytes);
      } else {
        std::memcpy(copy.to, copy.from, copy.bytes);
      }
    }
  }
}

}  // namespace

void run_grid(const LaunchShape& shape, const std::function<void()>& thread_body,
              RandomOrder& order, const std::string& name) {
  current_grid_extent = shape.grid;
  current_block_extent = shape.block;
  const dim3& grid = shape.grid;
  std::vector<std::uint64_t> blocks(std::uint64_t{grid.x} * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), std::uint64_t{0});
  for (std::size_t left = blocks.size(); left > 0; --left) {
    std::swap(blocks[order.below(left)], blocks[left - 1]);
    const std::uint64_t index = blocks[left - 1];
    current_block_index = {static_cast<unsigned>(index % grid.x),
                           static_cast<unsigned>(index / grid.x % grid.y),
                           static_cast<unsigned>(index / grid.x / grid.y)};
    if (!Block(shape, thread_body, order, name).run()) return;
  }
}

void block_barrier(const Site& site) { current_block->wait_at_barrier(site); }

std::uint64_t warp_exchange(unsigned mask, std::uint64_t value, int source, const Site& site) {
  return current_block->exchange(mask, value, source, site);
}

int current_lane() { return current_block->lane(); }

const std::byte* warp_gather(const void* own, std::size_t bytes, const Site& site) {
  return current_block->gather(own, bytes, site);
}

void copy_later(void* to, const void* from, std::size_t bytes, bool valid, const Site& site) {
  current_block->copy_later(to, from, bytes, valid, site);
}
void commit_copies() { current_block->commit_copies(); }
void wait_for_copies(std::size_t n) { current_block->wait_for_copies(n); }

void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment) {
  void* variable = current_block->shared().variable(key, bytes, alignment);
  if (variable == nullptr) current_block->fail("more than 48 KiB of shared memory in a block");
  return variable;
}

void* dynamic_shared_memory() { return current_block->shared().dynamic(); }

}  // namespace witan::cuda_on_cpu
