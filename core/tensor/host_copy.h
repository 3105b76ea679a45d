// A copy of a device tensor that travels to the host while work goes on: enqueued where the tensor
// is complete, waited for where the host needs it, by an event and not by the end of the stream.
#pragma once

#include <cstddef>
#include <optional>

#include "core/base/stream.h"
#include "core/tensor/tensor_view.h"

namespace witan {

class HostCopy {
 public:
  HostCopy() = default;
  ~HostCopy();  // waits
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;

  // Enqueues the copy of x, on ctx.device, behind what ctx.stream was given so far. What is
  // enqueued later may overwrite x. Takes the place of the copy before, which is waited for.
  void begin(const Context& ctx, const TensorView& x);

  // The copy, in page-locked memory until the next begin(); waits until it is there.
  const TensorView& wait();

 private:
  void* memory_ = nullptr;  // grows to a high-water mark
  std::size_t bytes_ = 0;
  std::optional<DeviceEvent> arrived_;
  bool travelling_ = false;
  TensorView copy_;
};

}  // namespace witan
