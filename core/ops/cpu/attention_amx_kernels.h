// Attention of one head on the AMX tiles: what attention_head and attention_group_backward of
// attention_kernels.h compute with `rounded`, for float32 and a positive scale.
#pragma once

#include "core/ops/cpu/attention_kernels.h"

namespace witan::cpu {

// Keys that a tile of queries looks at together, forward; keys and queries of a block, backward.
inline constexpr std::int64_t kAmxKeys = 128;
inline constexpr std::int64_t kAmxQueries = 32;
inline constexpr std::int64_t kAmxBlock = 64;

// Floats of workspace, which begins on a cache line.
[[maybe_unused]] static constexpr std::int64_t attention_amx_workspace(std::int64_t keys,
                                                                       std::int64_t head_dim,
                                                                       std::int64_t v_dim) {
  const std::int64_t rows = attention_padded(keys, kAmxKeys);
  const std::int64_t d = attention_padded(head_dim, 32);
  const std::int64_t dv = attention_padded(v_dim, 16);
  const std::int64_t packed = (rows + kAmxQueries) * d + rows * dv + kAmxQueries * kAmxKeys;
  return packed / 2 + kAmxQueries * (kAmxKeys + dv + 16);
}
[[maybe_unused]] static constexpr std::int64_t attention_amx_backward_workspace(
    std::int64_t keys, std::int64_t head_dim, std::int64_t v_dim) {
  const std::int64_t rows = attention_padded(keys, kAmxBlock);
  const std::int64_t d = attention_padded(head_dim, 16);
  const std::int64_t dv = attention_padded(v_dim, 16);
  const std::int64_t terms = attention_padded(head_dim, 32) + attention_padded(v_dim, 32);
  const std::int64_t square = kAmxBlock * kAmxBlock;
  const std::int64_t packed = rows * (2 * terms + 2 * d + dv) + 3 * square;
  return packed / 2 + rows * (2 * d + dv + 3) + 2 * square;
}

namespace amx {
void attention_head(const AttentionHead<float>& head, float* workspace);
void attention_group_backward(const AttentionGroup<float>& group, float* workspace);
}  // namespace amx

}  // namespace witan::cpu
