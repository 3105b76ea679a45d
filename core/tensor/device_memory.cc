#include "core/tensor/device_memory.h"

namespace witan {

void throw_out_of_device_memory(const std::string& what, Device device, std::size_t asked) {
  const DeviceMemory memory = device_memory(device);
  const auto held = static_cast<std::size_t>(allocation_stats(DeviceType::kCuda).bytes_in_use);
  const std::string how_much = asked == 0 ? "on" : detail::concat(asked, " bytes asked for on");
  throw OutOfDeviceMemory(
      detail::concat(what, what.empty() ? "" : ": ", "out of memory: ", how_much, " CUDA device ",
                     device.index, ", ", memory.available, " of ", memory.total, " free, ", held,
                     " held by this rank"),
      memory.available + held);
}

void rethrow_out_of_memory(const std::string& what, const OutOfMemory& error) {
  const std::string message = detail::concat(what, ": ", error.what());
  const auto* on_device = dynamic_cast<const OutOfDeviceMemory*>(&error);
  if (on_device != nullptr) throw OutOfDeviceMemory(message, on_device->budget());
  throw OutOfMemory(message);
}

}  // namespace witan
