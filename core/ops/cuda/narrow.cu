#include "core/ops/cuda/narrow.h"

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/bfloat16.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {
namespace {

constexpr int kRounded = 8;  // elements a thread rounds at once: 32 bytes in, 16 out

// 6 n bytes
template <int kWidth>
__global__ void narrow_operand_kernel(const float* from, std::int64_t n, std::uint16_t* to) {
  for_each_piece<kWidth>(n, [&](std::int64_t i, auto width) {
    constexpr int kHere = decltype(width)::value;
    const Pack<float, kHere> in = load_pack<kHere>(from + i);
    Pack<std::uint16_t, kHere> out;
    WITAN_UNROLL
    for (int j = 0; j < kHere; ++j) out.value[j] = to_bfloat16(in.value[j]);
    store_pack<kHere>(to + i, out);
  });
}

}  // namespace

void narrow_operand(const Context& ctx, const float* from, std::int64_t n, std::uint16_t* to) {
  if (n == 0) return;
  const auto start = [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    launch(narrow_operand_kernel<kWidth>, flat_grid(n / kWidth), dim3(kFlatThreads), 0, ctx.stream,
           from, n, to);
  };
  if (is_aligned(from) && is_aligned(to)) {
    start(Width<kRounded>{});
  } else {
    start(Width<1>{});
  }
}

}  // namespace witan::ops::cuda
