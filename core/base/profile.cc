#include "core/base/profile.h"

#include <algorithm>
#include <chrono>

#include "core/base/current_layer.h"
#include "core/base/error.h"

namespace witan {
namespace {

// Slots are claimed by counting up; what lies `capacity` back is overwritten.
struct Ring {
  std::vector<ProfileEvent> slots;
  std::atomic<std::uint64_t> next{0};
  std::uint64_t taken = 0;
};
Ring ring;  // NOLINT(bugprone-dynamic-static-initializers): empty until recording starts

std::atomic<int> threads{0};

int thread_number() {
  thread_local const int number = threads.fetch_add(1, std::memory_order_relaxed);
  return number;
}

}  // namespace

namespace detail {

std::atomic<bool> profiling{false};

void record_profile_event(ProfileEvent event) {
  event.thread = static_cast<std::int16_t>(thread_number());
  const std::uint64_t at = ring.next.fetch_add(1, std::memory_order_relaxed);
  ring.slots[at % ring.slots.size()] = event;
}

}  // namespace detail

std::int64_t profile_clock_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

void start_profiling(std::size_t capacity) {
  WITAN_CHECK(!profiling(), "a profile is being recorded already");
  WITAN_CHECK(capacity > 0, "a profile needs room for at least one event");
  ring.slots.assign(capacity, ProfileEvent{});
  ring.next = 0;
  ring.taken = 0;
  thread_number();  // 0, unless another thread started recording before
  detail::profiling = true;
}

void stop_profiling() { detail::profiling = false; }

std::int64_t take_profile_events(std::vector<ProfileEvent>& events) {
  const std::uint64_t next = ring.next;
  const std::uint64_t capacity = ring.slots.size();
  const std::uint64_t first = next > capacity ? std::max(ring.taken, next - capacity) : ring.taken;
  for (std::uint64_t i = first; i < next; ++i) events.push_back(ring.slots[i % capacity]);
  const std::uint64_t lost = first - ring.taken;
  ring.taken = next;
  return static_cast<std::int64_t>(lost);
}

void ProfileScope::begin(const char* name, const char* communicator) {
  name_ = name;
  communicator_ = communicator;
  layer_ = current_layer();
  begin_ns_ = profile_clock_ns();
}

void ProfileScope::end() const {
  if (!profiling()) return;  // stopped in between
  const auto kind =
      communicator_ == nullptr ? ProfileEvent::Kind::kPhase : ProfileEvent::Kind::kWait;
  detail::record_profile_event({.name = name_,
                                .communicator = communicator_,
                                .begin_ns = begin_ns_,
                                .end_ns = profile_clock_ns(),
                                .layer = layer_,
                                .kind = kind});
}

void ProfileTransfer::begin(std::int64_t bytes) {
  bytes_ = bytes;
  layer_ = current_layer();
  begin_ns_ = profile_clock_ns();
}

void ProfileTransfer::end(const char* operation, const char* communicator) {
  const std::int64_t begin_ns = begin_ns_;
  begin_ns_ = 0;
  if (!profiling()) return;
  detail::record_profile_event({.name = operation,
                                .communicator = communicator,
                                .begin_ns = begin_ns,
                                .end_ns = profile_clock_ns(),
                                .bytes = bytes_,
                                .layer = layer_,
                                .kind = ProfileEvent::Kind::kCollective});
}

}  // namespace witan
