// Attention by ordinary arithmetic in T, for what the tensor cores do not take; tiled, with online
// softmax. Launchers of attention_plain.cu; pointers as in AttentionLayout.
#pragma once

#include <cstdint>

#include "core/base/context.h"
#include "core/ops/cuda/attention_layout.h"

namespace witan::ops::cuda {

// q, k, v to out and lse.
template <class T>
void attention_plain(const Context& ctx, const AttentionLayout& layout, std::int64_t batch,
                     const T* q, const T* k, const T* v, const std::int32_t* first_key, T* out,
                     T* lse);

// The last queries of each sequence against its first `lengths` (device) keys, each against the
// newest `window` of those up to itself (0: all). The query heads of a key head share a tile, so
// that a cache is read once for all of them.
template <class T>
void attention_cached_plain(const Context& ctx, const AttentionLayout& layout, std::int64_t batch,
                            const T* q, const T* k, const T* v, const std::int32_t* lengths,
                            std::int64_t window, T* out);

// delta = the row sums of dout * out, both [rows, v_dim].
template <class T>
void attention_delta(const Context& ctx, const T* dout, const T* out, std::int64_t rows,
                     std::int64_t v_dim, T* delta);

// dq, dk, dv from what the forward left; delta has been computed.
template <class T>
void attention_backward_plain(const Context& ctx, const AttentionLayout& layout, std::int64_t batch,
                              const T* dout, const T* q, const T* k, const T* v,
                              const std::int32_t* first_key, const T* lse, const T* delta, T* dq,
                              T* dk, T* dv);

}  // namespace witan::ops::cuda
