// What the time of a step goes to, event by event: scopes mark phases, communicators report their
// collectives. While nothing is recorded a scope costs one relaxed load; while something is, two
// readings of the clock and one slot of a ring that was allocated beforehand.
//
//   void MoeLayer::forward(...) {
//     { const ProfileScope scope("router"); ... }
//
// Names are string literals: events keep the pointers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace witan {

struct ProfileEvent {
  enum class Kind : std::uint8_t {
    kPhase,       // work of the thread; phases of a thread nest
    kWait,        // the thread waits for a collective; nests like a phase
    kCollective,  // a transfer from its start to its end; may overlap with anything
  };
  const char* name = "";               // a literal
  const char* communicator = nullptr;  // waits and collectives; lives as long as its communicator
  std::int64_t begin_ns = 0, end_ns = 0;  // profile_clock_ns()
  std::int64_t bytes = -1;                // collectives: what this rank sends to others
  std::int32_t layer = -1;                // current_layer() at the beginning
  std::int16_t thread = 0;                // 0: the first that started recording
  Kind kind = Kind::kPhase;
};

// The monotonic clock of this node, nanoseconds.
std::int64_t profile_clock_ns();

namespace detail {
extern std::atomic<bool> profiling;
void record_profile_event(ProfileEvent event);  // fills in the thread
}  // namespace detail

inline bool profiling() { return detail::profiling.load(std::memory_order_relaxed); }

// Recording on and off, by one thread while no other is inside a scope. `capacity` events are kept
// between two calls of take_profile_events(); of more, the oldest are lost.
void start_profiling(std::size_t capacity);
void stop_profiling();

// Appends the events since the last call, in the order in which they ended; returns how many were
// lost. While no other thread records.
std::int64_t take_profile_events(std::vector<ProfileEvent>& events);

// A phase, from here to the end of the block.
class ProfileScope {
 public:
  explicit ProfileScope(const char* name) {
    if (profiling()) [[unlikely]]
      begin(name, nullptr);
  }
  // A wait for a collective of a communicator.
  ProfileScope(const char* name, const char* communicator) {
    if (profiling()) [[unlikely]]
      begin(name, communicator);
  }
  ~ProfileScope() {
    if (name_ != nullptr) [[unlikely]]
      end();
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  void begin(const char* name, const char* communicator);
  void end() const;

  const char* name_ = nullptr;  // null: nothing is recorded
  const char* communicator_ = nullptr;
  std::int64_t begin_ns_ = 0;
  std::int32_t layer_ = -1;
};

// What `work` returns, with a phase around it.
template <class Work>
decltype(auto) profiled(const char* name, Work&& work) {
  const ProfileScope scope(name);
  return work();
}

// A collective between its start and its end, with other work in between.
class ProfileTransfer {
 public:
  // `bytes`: what this rank sends to others.
  void start(std::int64_t bytes) {
    begin_ns_ = 0;
    if (profiling()) [[unlikely]]
      begin(bytes);
  }
  void finish(const char* operation, const char* communicator) {
    if (begin_ns_ != 0) [[unlikely]]
      end(operation, communicator);
  }

 private:
  void begin(std::int64_t bytes);
  void end(const char* operation, const char* communicator);

  std::int64_t begin_ns_ = 0;  // 0: nothing is recorded
  std::int64_t bytes_ = 0;
  std::int32_t layer_ = -1;
};

}  // namespace witan
