// Where the rows of attention's operands stand.
#pragma once

#include <cstdint>

#include "core/base/cuda/dialect.h"
#include "core/ops/attention.h"
#include "core/ops/cuda/block_sum.h"

namespace witan::ops::cuda {

// Operands as matrices of rows, in elements: a head's row of token t of sequence b begins at
// b * _sequence + t * _row + head * head_dim, or for values head * v_head.
struct AttentionLayout {
  std::int64_t queries;       // of a sequence
  std::int64_t heads, group;  // query heads; those that share a key head
  std::int64_t head_dim, v_dim;
  std::int64_t v_head;
  std::int64_t q_row, q_sequence;
  std::int64_t k_row, k_sequence;
  std::int64_t v_row, v_sequence;
  double scale;
};

// That of ops::attention: queries, keys and values side by side in the rows of qkv.
inline AttentionLayout joined_layout(const AttentionShape& shape) {
  const std::int64_t row =
      (shape.heads + shape.kv_heads) * shape.head_dim + shape.kv_heads * shape.value_dim();
  const std::int64_t sequence = shape.seq_len * row;
  return {.queries = shape.seq_len,
          .heads = shape.heads,
          .group = shape.heads / shape.kv_heads,
          .head_dim = shape.head_dim,
          .v_dim = shape.value_dim(),
          .v_head = shape.value_dim(),
          .q_row = row,
          .q_sequence = sequence,
          .k_row = row,
          .k_sequence = sequence,
          .v_row = row,
          .v_sequence = sequence,
          .scale = shape.scale};
}

// The pointers to the keys and values of qkv or dqkv.
template <class T>
T* keys_of(const AttentionShape& shape, T* qkv) {
  return qkv + shape.heads * shape.head_dim;
}
template <class T>
T* values_of(const AttentionShape& shape, T* qkv) {
  return qkv + (shape.heads + shape.kv_heads) * shape.head_dim;
}

// The smallest of first_key [begin, end), on every thread; all threads of a warp call it. A null
// first_key means 0.
__device__ inline std::int64_t lowest_first_key(const std::int32_t* first_key, std::int64_t begin,
                                                std::int64_t end) {
  if (first_key == nullptr || begin >= end) return 0;
  std::int32_t lowest = first_key[begin];
  for (std::int64_t i = begin + threadIdx.x % kWarpSize; i < end; i += kWarpSize) {
    lowest = first_key[i] < lowest ? first_key[i] : lowest;
  }
  WITAN_UNROLL
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const std::int32_t other = __shfl_xor_sync(kFullWarp, lowest, offset);
    lowest = other < lowest ? other : lowest;
  }
  return lowest;
}

// One behind the last query that sees a key below `key_end`, on every thread; all threads of a warp
// call it.
__device__ inline std::int64_t end_of_queries(const std::int32_t* first_key, std::int64_t key,
                                              std::int64_t key_end, std::int64_t queries) {
  std::int64_t last = key;
  for (std::int64_t i = key + threadIdx.x % kWarpSize; i < queries; i += kWarpSize) {
    if (first_key[i] < key_end) last = i;
  }
  WITAN_UNROLL
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const std::int64_t other = __shfl_xor_sync(kFullWarp, last, offset);
    last = other > last ? other : last;
  }
  return last + 1;
}

}  // namespace witan::ops::cuda
