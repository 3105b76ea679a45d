// The only way to start a kernel. The argument types must be the kernel's own (T* may become const
// T*), since a silent conversion of an extent or a pointer is a bug that nobody sees.
#pragma once

#include <array>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "core/base/context.h"
#include "core/base/cuda/cuda_check.h"
#include "core/base/cuda/dialect.h"

namespace witan {

template <class From, class To>
inline constexpr bool is_kernel_argument = std::is_same_v<From, To> ||
                                           (std::is_pointer_v<From> && std::is_pointer_v<To> &&
                                            std::is_convertible_v<From, To>);

// What a block may have of shared memory without asking for more.
inline constexpr std::size_t kSharedBytesAsIs = std::size_t{48} << 10;

// Enqueues kernel(args...) on `stream` with `shared_bytes` of dynamic shared memory (more
// than 48 KiB is asked for: chips have 163 KiB, 8.0, or 227 KiB, 9.0); throws if the launch is
// refused. Empty grids are refused too: callers return early when there is no work.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
            const Stream& stream, Args... args) {
  static_assert(sizeof...(Params) == sizeof...(Args),
                "the kernel takes another number of arguments");
  static_assert((is_kernel_argument<Args, Params> && ...), "an argument has another type");
  std::tuple<Params...> values(args...);
  std::array<void*, sizeof...(Params)> addresses = std::apply(
      [](auto&... value) {
        return std::array<void*, sizeof...(Params)>{static_cast<void*>(&value)...};
      },
      values);
  if (shared_bytes > kSharedBytesAsIs) {
    WITAN_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(shared_bytes)),
                     "asking for ", shared_bytes, " bytes of shared memory");
  }
  WITAN_CUDA_CHECK(cudaLaunchKernel(kernel, grid, block, addresses.data(), shared_bytes,
                                    static_cast<cudaStream_t>(stream.handle)),
                   "launch of grid [", grid.x, ", ", grid.y, ", ", grid.z, "], block [", block.x,
                   ", ", block.y, ", ", block.z, "], ", shared_bytes, " bytes of shared memory");
}

}  // namespace witan
