// Runs a grid: block after block, every thread of a block a fiber.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "tests/support/cuda_on_cpu/cuda_runtime.h"
#include "tests/support/cuda_on_cpu/random_order.h"

namespace witan::cuda_on_cpu {

inline constexpr std::size_t kSharedBytes = std::size_t{48} << 10;  // of a block, without opting in
inline constexpr std::size_t kMostSharedBytes = std::size_t{163} << 10;  // with that, on an A100

// Calls thread_body once for every thread of the grid. Stops at the first fault, which it reports
// under `name`.
void run_grid(const LaunchShape& shape, const std::function<void()>& thread_body,
              RandomOrder& order, const std::string& name);

}  // namespace witan::cuda_on_cpu
