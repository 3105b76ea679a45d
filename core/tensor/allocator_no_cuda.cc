#include "core/base/error.h"
#include "core/tensor/allocator_cuda.h"

namespace witan {

void* cuda_allocate(Device, std::size_t bytes) {
  throw UserError(detail::concat(
      "device CUDA was asked for (", bytes,
      " bytes), but this witan was built without CUDA; configure with -DWITAN_CUDA=ON"));
}
void cuda_free(Device, void*) noexcept {}

}  // namespace witan
