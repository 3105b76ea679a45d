#include "core/base/device_timer.h"

#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"

namespace witan {

DeviceTimer::DeviceTimer(Device device) : device_(device) {
  if (device.is_cpu()) return;
  begin_ = cuda::timed_event_create(device);
  end_ = cuda::timed_event_create(device);
}

DeviceTimer::~DeviceTimer() {
  if (device_.is_cpu()) return;
  cuda::event_destroy(begin_);
  cuda::event_destroy(end_);
}

void DeviceTimer::start(const Context& ctx) {
  WITAN_CHECK(ctx.device == device_, "a timer of another device");
  host_begin_ = Clock::now();
  if (device_.is_cuda()) cuda::event_record(begin_, ctx.stream);
}

void DeviceTimer::stop(const Context& ctx) {
  WITAN_CHECK(ctx.device == device_, "a timer of another device");
  host_end_ = Clock::now();
  if (device_.is_cuda()) cuda::event_record(end_, ctx.stream);
}

double DeviceTimer::seconds() const {
  if (device_.is_cpu()) return std::chrono::duration<double>(host_end_ - host_begin_).count();
  cuda::event_synchronize(end_);
  return cuda::seconds_between(begin_, end_);
}

}  // namespace witan
