// Streams and events of either device. On the CPU every op has finished when it returns, so a
// stream is a null handle and an event has happened as soon as it is recorded: code written against
// these types runs on both.
#pragma once

#include "core/base/context.h"

namespace witan {

// Owns a stream of a device (CUDA: non-blocking with respect to the default stream). Not movable:
// others are given stream.context() or stream.get(). The destructor waits for the work that is
// still enqueued.
class DeviceStream {
 public:
  explicit DeviceStream(Device device);
  ~DeviceStream();
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;

  Stream get() const { return context_.stream; }
  const Context& context() const { return context_; }

 private:
  Context context_;
};

// The host waits until everything enqueued on ctx.stream is done; throws what a kernel left behind.
void synchronize(const Context& ctx);

// A mark in a stream that other streams and the host can wait for.
class DeviceEvent {
 public:
  explicit DeviceEvent(Device device);
  ~DeviceEvent();
  DeviceEvent(const DeviceEvent&) = delete;
  DeviceEvent& operator=(const DeviceEvent&) = delete;

  // Marks what has been enqueued on ctx.stream so far; a second record moves the mark.
  void record(const Context& ctx);
  // What is enqueued on ctx.stream from now on starts after the mark. No effect before a record().
  void make_wait(const Context& ctx) const;
  // The host waits for the mark.
  void synchronize() const;
  // Whether the mark has been reached; true before a record().
  bool happened() const;

 private:
  Device device_;
  void* handle_ = nullptr;
};

}  // namespace witan
