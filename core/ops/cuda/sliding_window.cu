#include "core/ops/cuda/sliding_window.h"

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pieces.h"

namespace witan::ops::cuda {
namespace {

// 8 bytes of traffic a token.
__global__ void narrow_to_window_kernel(std::int64_t window, std::int64_t seq_len,
                                        const std::int32_t* first_key, std::int64_t tokens,
                                        std::int32_t* narrowed) {
  for (std::int64_t t = first_index(); t < tokens; t += index_stride()) {
    const std::int64_t begin = t % seq_len - window + 1;
    const std::int32_t first = first_key[t];
    narrowed[t] = begin > first ? static_cast<std::int32_t>(begin) : first;
  }
}

}  // namespace

void narrow_to_window(const Context& ctx, std::int64_t window, std::int64_t seq_len,
                      const TensorView& first_key, const TensorView& narrowed) {
  const std::int64_t tokens = first_key.size();
  if (tokens == 0) return;
  launch(narrow_to_window_kernel, flat_grid(tokens), dim3(kFlatThreads), 0, ctx.stream, window,
         seq_len, first_key.as<std::int32_t>(), tokens, narrowed.as<std::int32_t>());
}

}  // namespace witan::ops::cuda
