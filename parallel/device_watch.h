// Watches over operations that the host has left to the device. Nobody waits for one of those, and
// the host itself may be stuck behind it, in a wait for a stream or in a launch: a thread looks,
// and ends the run if one of them never ends.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "core/base/device.h"
#include "parallel/watchdog.h"

namespace witan {

class DeviceWatch {
 public:
  // An operation of one communicator. Called by any thread, one at a time.
  class Operation {
   public:
    virtual bool done() const = 0;  // looks at the device; may throw its error
    virtual CollectiveCall call() const = 0;
    // What the library says went wrong with it; empty: nothing so far.
    virtual std::string trouble() const = 0;
    // Ends the library's work on all of them: the run is about to end.
    virtual void abort_all() const noexcept = 0;

   protected:
    ~Operation() = default;
  };

  // `limit_seconds` without an operation that ends while there are some end the run, as in
  // Watchdog.
  DeviceWatch(Device device, double limit_seconds) : device_(device), watchdog_(limit_seconds) {}
  ~DeviceWatch() { stop(); }
  DeviceWatch(const DeviceWatch&) = delete;
  DeviceWatch& operator=(const DeviceWatch&) = delete;

  // In the order in which operations end: the oldest is the one that is named.
  void add(const Operation& operation);
  // Whether the oldest has ended, which is then no longer watched.
  bool take_oldest_done();
  bool empty();
  // Ends the thread: from here on what it asks of operations may go away, and none may be added.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  void run();
  void look();
  [[noreturn]] void end_run(const Operation& operation, int code) const;

  Device device_;
  Watchdog watchdog_;
  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::deque<const Operation*> open_;  // oldest first
  std::size_t known_done_ = 0;         // of the oldest, but not taken yet
  Clock::time_point progress_;         // when an operation last ended, or began with none open
  bool ending_ = false;
  std::thread thread_;  // started by the first operation
};

}  // namespace witan
