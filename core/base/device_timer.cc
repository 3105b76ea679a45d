#include "core/base/device_timer.h"

#include "core/base/cuda/stream_cuda.h"

namespace witan {

DeviceTimer::DeviceTimer(Device device)
    : begin_(cuda::timed_event_create(device)), end_(cuda::timed_event_create(device)) {}

DeviceTimer::~DeviceTimer() {
  cuda::event_destroy(begin_);
  cuda::event_destroy(end_);
}

void DeviceTimer::start(const Context& ctx) { cuda::event_record(begin_, ctx.stream); }
void DeviceTimer::stop(const Context& ctx) { cuda::event_record(end_, ctx.stream); }

double DeviceTimer::seconds() const {
  cuda::event_synchronize(end_);
  return cuda::seconds_between(begin_, end_);
}

}  // namespace witan
