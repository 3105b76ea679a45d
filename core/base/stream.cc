#include "core/base/stream.h"

#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"

namespace witan {

DeviceStream::DeviceStream(Device device) : context_{device, {}} {
  if (device.is_cuda()) context_.stream.handle = cuda::stream_create(device);
}

DeviceStream::~DeviceStream() {
  if (context_.device.is_cuda()) cuda::stream_destroy(context_.stream);
}

void synchronize(const Context& ctx) {
  if (ctx.device.is_cuda()) cuda::stream_synchronize(ctx.stream);
}

DeviceEvent::DeviceEvent(Device device) : device_(device) {
  if (device.is_cuda()) handle_ = cuda::event_create(device);
}

DeviceEvent::~DeviceEvent() {
  if (device_.is_cuda()) cuda::event_destroy(handle_);
}

void DeviceEvent::record(const Context& ctx) {
  WITAN_CHECK(ctx.device == device_, "an event of another device");
  if (device_.is_cuda()) cuda::event_record(handle_, ctx.stream);
}

void DeviceEvent::make_wait(const Context& ctx) const {
  WITAN_CHECK(ctx.device == device_, "an event of another device");
  if (device_.is_cuda()) cuda::stream_wait_event(ctx.stream, handle_);
}

void DeviceEvent::synchronize() const {
  if (device_.is_cuda()) cuda::event_synchronize(handle_);
}

bool DeviceEvent::happened() const { return device_.is_cpu() || cuda::event_happened(handle_); }

}  // namespace witan
