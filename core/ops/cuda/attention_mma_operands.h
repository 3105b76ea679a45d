// The operands of attention on the tensor cores: float32 tensors rounded to bfloat16 once, in the
// stream's scratch, since every key is read again for each tile of queries: half the bytes to read,
// and copies to shared memory that need no registers.
#pragma once

#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/bfloat16.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/pack.h"

namespace witan::ops::cuda {

inline constexpr int kRoundedAtOnce = 8;

// to = from, rounded to nearest even; 6 bytes an element.
template <int kWidth>
__global__ void round_rows_kernel(const float* from, std::int64_t pieces, std::uint16_t* to) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < pieces; i += stride) {
    Pack<std::uint16_t, kWidth> rounded;
    WITAN_UNROLL
    for (int part = 0; part < kWidth; part += 4) {
      const Pack<float, 4> value = load_pack<4>(from + i * kWidth + part);
      WITAN_UNROLL
      for (int j = 0; j < 4; ++j) rounded.value[part + j] = to_bfloat16(value.value[j]);
    }
    store_pack<kWidth>(to + i * kWidth, rounded);
  }
}

// `count` is a multiple of 16, since every head is; `from` and `to` lie at multiples of 16 bytes.
inline void round_rows(const Stream& stream, const float* from, std::int64_t count,
                       std::uint16_t* to) {
  WITAN_CHECK(is_aligned(from),
              "attention in bfloat16: expected operands at multiples of 16 bytes");
  const std::int64_t pieces = count / kRoundedAtOnce;
  launch(round_rows_kernel<kRoundedAtOnce>, flat_grid(pieces), dim3(kFlatThreads), 0, stream, from,
         pieces, to);
}

// f(Heads<kQk, kV>{}) with the narrowest kernels that the heads fit into.
template <int kQkDim, int kValueDim>
struct Heads {
  static constexpr int kQk = kQkDim;
  static constexpr int kV = kValueDim;
};
template <class F>
void dispatch_heads(const AttentionShape& shape, const F& f) {
  const std::int64_t qk = shape.head_dim;
  const std::int64_t v = shape.value_dim();
  if (qk <= 64 && v <= 64) {
    f(Heads<64, 64>{});
  } else if (qk <= 128 && v <= 128) {
    f(Heads<128, 128>{});
  } else if (qk <= 192 && v <= 128) {
    f(Heads<192, 128>{});  // latent attention
  } else {
    f(Heads<256, 256>{});
  }
}

}  // namespace witan::ops::cuda
