// Flash-style attention of one head: queries and keys in tiles of kAttentionTile, softmax online.
// core/ops/attention.cc gives every (sequence, head) to a thread.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"

namespace witan::cpu {

inline constexpr std::int64_t kAttentionTile = 64;

// Rows of [rows, head_dim] matrices that stand `stride` elements apart.
template <class T>
struct HeadRows {
  T* data;
  std::int64_t stride;
};

// Query i stands at position keys - queries + i and sees keys first_key[i] .. its own position;
// a null first_key means 0.
template <class T>
struct AttentionHead {
  HeadRows<const T> q;
  HeadRows<const T> k;
  HeadRows<const T> v;
  HeadRows<T> out;
  HeadRows<T> lse;  // one element a row; null data: not wanted
  const std::int32_t* first_key;
  std::int64_t queries;
  std::int64_t keys;
  std::int64_t head_dim;
  std::int64_t v_dim;  // of v and out
  T scale;
  bool rounded;  // float: probabilities are rounded to bfloat16 before they are multiplied
};

// One key head with the `group` query heads that read it; head h of the group starts
// h * head_dim (dout: h * v_dim; lse and delta: h) elements further. As many queries as keys.
template <class T>
struct AttentionGroup {
  HeadRows<const T> q;
  HeadRows<const T> k;
  HeadRows<const T> v;
  HeadRows<const T> dout;
  HeadRows<const T> lse;
  HeadRows<const T> delta;
  HeadRows<T> dq;
  HeadRows<T> dk;
  HeadRows<T> dv;
  const std::int32_t* first_key;
  std::int64_t group;
  std::int64_t seq_len;
  std::int64_t head_dim;
  std::int64_t v_dim;  // of v, dout, dv
  T scale;
  bool rounded;  // float: as above, the gradients of the scores too
};

// Elements of workspace that the kernels below need.
[[maybe_unused]] static constexpr std::int64_t attention_padded(std::int64_t n, std::int64_t to) {
  return (n + to - 1) / to * to;
}
[[maybe_unused]] static constexpr std::int64_t attention_workspace(std::int64_t keys,
                                                                   std::int64_t head_dim,
                                                                   std::int64_t v_dim) {
  const std::int64_t rows = attention_padded(keys, kAttentionTile);
  const std::int64_t width = attention_padded(head_dim, 16) + attention_padded(v_dim, 16);
  return (rows + kAttentionTile) * width + kAttentionTile * kAttentionTile + 2 * kAttentionTile;
}
[[maybe_unused]] static constexpr std::int64_t attention_backward_workspace(std::int64_t keys,
                                                                            std::int64_t head_dim,
                                                                            std::int64_t v_dim) {
  const std::int64_t rows = attention_padded(keys, kAttentionTile);
  const std::int64_t width = 5 * attention_padded(head_dim, 16) + 3 * attention_padded(v_dim, 16);
  return rows * width + 2 * kAttentionTile * kAttentionTile;
}

}  // namespace witan::cpu

#define WITAN_ATTENTION_KERNELS                                                     \
  template <class T>                                                                \
  void attention_head(const cpu::AttentionHead<T>& head, T* workspace);             \
  /* The same for few queries: reads keys and values where they stand. */           \
  template <class T>                                                                \
  void attention_few_queries(const cpu::AttentionHead<T>& head);                    \
  template <class T>                                                                \
  void attention_group_backward(const cpu::AttentionGroup<T>& group, T* workspace); \
  /* delta[r] = sum over i of dout[r, i] out[r, i]. */                              \
  template <class T>                                                                \
  void attention_delta(const T* dout, const T* out, T* delta, std::int64_t rows,    \
                       std::int64_t head_dim);

WITAN_DECLARE_ISA(WITAN_ATTENTION_KERNELS)
