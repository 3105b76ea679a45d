// The operands of attention on the tensor cores: float32 tensors rounded to bfloat16 once, in the
// stream's scratch, since every key is read again for each tile of queries: half the bytes to read,
// and copies to shared memory that need no registers.
#pragma once

#include <cstdint>

namespace witan::ops::cuda {

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
