// How long the work of a stream takes, between two marks in it.
#pragma once

#include <chrono>

#include "core/base/context.h"

namespace witan {

// On CUDA two timed events: what the device needs from the first mark to the second, whatever the
// host does meanwhile. On the CPU the wall clock. Not copied: it owns its marks.
class DeviceTimer {
 public:
  explicit DeviceTimer(Device device);
  ~DeviceTimer();
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  // Mark ctx.stream behind what is enqueued on it so far.
  void start(const Context& ctx);
  void stop(const Context& ctx);
  // Behind both: waits for the second mark.
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  Device device_;
  void* begin_ = nullptr;
  void* end_ = nullptr;
  Clock::time_point host_begin_, host_end_;
};

}  // namespace witan
