// How long the work of a CUDA stream takes, between two marks in it.
#pragma once

#include "core/base/context.h"

namespace witan {

// Two timed events: what the device needs from the first mark to the second, whatever the host does
// meanwhile. Not copied: it owns its marks.
class DeviceTimer {
 public:
  explicit DeviceTimer(Device device);  // a CUDA device
  ~DeviceTimer();
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  // Mark ctx.stream behind what is enqueued on it so far.
  void start(const Context& ctx);
  void stop(const Context& ctx);
  // Behind both: waits for the second mark.
  double seconds() const;

 private:
  void* begin_;
  void* end_;
};

}  // namespace witan
