// How much memory a GPU has, and errors that say so.
#pragma once

#include <cstddef>
#include <string>

#include "core/base/device.h"
#include "core/tensor/allocator.h"

namespace witan {

// Bytes of a whole GPU, whoever uses them: other processes and libraries count.
struct DeviceMemory {
  std::size_t available = 0;
  std::size_t total = 0;
};
// UserError where the GPU cannot be used, or the build has no CUDA.
DeviceMemory device_memory(Device device);

// Not enough memory on a GPU.
class OutOfDeviceMemory : public OutOfMemory {
 public:
  // `budget`: bytes that this process held there and those that were free, in all.
  OutOfDeviceMemory(const std::string& message, std::size_t budget)
      : OutOfMemory(message), budget_(budget) {}
  std::size_t budget() const { return budget_; }

 private:
  std::size_t budget_;
};

// "WHAT: out of memory: 400 bytes asked for on CUDA device 1, 300 of 4000 free, 1000 held by this
// rank". `asked`: 0 where only a library knows.
[[noreturn]] void throw_out_of_device_memory(const std::string& what, Device device,
                                             std::size_t asked);

// `error` again, which now also says what the memory was for.
[[noreturn]] void rethrow_out_of_memory(const std::string& what, const OutOfMemory& error);

}  // namespace witan
