#include "core/ops/cpu/attention_kernels.h"
#include "core/ops/cpu/attention_tiles.h"

namespace witan::cpu::WITAN_ISA {
namespace {

// Workspace of one key head. With P the probabilities and dS = P (dP - delta), dP = dout v^T:
// dv = P^T dout, dq = scale dS k, dk = scale dS^T q.
template <class T>
struct BackwardTiles {
  T* keys;           // transposed tiles [head_dim, kTile]
  T* values;         // likewise [v_dim, kTile]
  T* key_rows;       // [seq, ld]
  T* q;              // [seq, ld], scaled
  T* dout;           // [seq, ld_v]
  T* dq;             // [seq, ld], without the scale
  T* dk;             // [seq, ld]
  T* dv;             // [seq, ld_v]
  T* probabilities;  // [kTile, kTile]
  T* dscores;        // [kTile, kTile]
  const T* lse;      // of the head at work
  const T* delta;
  std::int64_t lse_stride;
  std::int64_t ld;
  std::int64_t ld_v;
};

template <class T>
WITAN_INLINE void zero(T* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = 0;
}

// P and dS of kGroup queries and one tile of keys, and their share of dq. False if they see none of
// the keys.
template <class T>
WITAN_INLINE bool group_gradient(const AttentionGroup<T>& head, const BackwardTiles<T>& tiles,
                                 std::int64_t query, std::int64_t count, std::int64_t row,
                                 std::int64_t key) {
  T* p = tiles.probabilities + row * kTile;
  T* ds = tiles.dscores + row * kTile;
  const Span columns = group_keys(head.first_key, query, count, 0, key);
  // Key gradients read whole rows: what no query of the group sees counts as 0.
  const std::int64_t hidden = columns.empty() ? kTile : columns.begin;
  for (std::int64_t i = 0; i < kGroup && hidden > 0; ++i) {
    zero(p + i * kTile, hidden);
    zero(ds + i * kTile, hidden);
  }
  if (columns.empty()) return false;
  const std::int64_t ld = tiles.ld;
  const std::int64_t width = columns.end - columns.begin;
  const std::int64_t tile_at = key * head.head_dim + columns.begin;
  tile_product<T>({tiles.q + query * ld, ld, 1}, tiles.keys + tile_at, kTile, width, head.head_dim,
                  p + columns.begin, kTile, false);
  tile_product<T>({tiles.dout + query * tiles.ld_v, tiles.ld_v, 1},
                  tiles.values + key * head.v_dim + columns.begin, kTile, width, head.v_dim,
                  ds + columns.begin, kTile, false);
  for (std::int64_t i = 0; i < kGroup; ++i, p += kTile, ds += kTile) {
    if (i >= count) {
      zero(p + columns.begin, width);
      zero(ds + columns.begin, width);
      continue;
    }
    const std::int64_t first_key = head.first_key[query + i];
    const Span visible = visible_keys(query + i, first_key, key);
    if (visible.empty()) {
      zero(p + columns.begin, width);
      zero(ds + columns.begin, width);
      continue;
    }
    mask_row(p, columns, visible);
    const T lse = tiles.lse[(query + i) * tiles.lse_stride];
    const T delta = tiles.delta[(query + i) * tiles.lse_stride];
    for (std::int64_t j = columns.begin; j < columns.end; j += kLanes<T>) {
      const Vec<T> probability = exp(load(p + j) - lse);
      store(p + j, operand(probability, head.rounded));
      store(ds + j, operand(probability * (load(ds + j) - delta), head.rounded));
    }
  }
  const std::int64_t seen = head.seq_len - key;
  const std::int64_t end = columns.end < seen ? columns.end : seen;
  tile_product<T>({tiles.dscores + row * kTile + columns.begin, kTile, 1},
                  tiles.key_rows + (key + columns.begin) * ld, ld, ld, end - columns.begin,
                  tiles.dq + query * ld, ld, true);
  return true;
}

// One tile of queries against one tile of keys.
template <class T>
void tile_gradient(const AttentionGroup<T>& head, const BackwardTiles<T>& tiles, std::int64_t query,
                   std::int64_t key) {
  const std::int64_t left = head.seq_len - query;
  const std::int64_t queries = left < kTile ? left : kTile;
  bool any_visible = false;
  for (std::int64_t i = 0; i < queries; i += kGroup) {
    const std::int64_t count = queries - i < kGroup ? queries - i : kGroup;
    any_visible |= group_gradient(head, tiles, query + i, count, i, key);
  }
  if (!any_visible) return;  // tiles of different documents
  const std::int64_t keys = head.seq_len - key < kTile ? head.seq_len - key : kTile;
  const std::int64_t ld = tiles.ld;
  const std::int64_t ld_v = tiles.ld_v;
  for (std::int64_t j = 0; j < keys; j += kProductRows) {
    // On the diagonal, queries before key j do not see it.
    const std::int64_t begin = query == key ? j : 0;
    if (begin >= queries) break;
    const std::int64_t corner = begin * kTile + j;
    tile_product<T>({tiles.probabilities + corner, 1, kTile}, tiles.dout + (query + begin) * ld_v,
                    ld_v, ld_v, queries - begin, tiles.dv + (key + j) * ld_v, ld_v, true);
    tile_product<T>({tiles.dscores + corner, 1, kTile}, tiles.q + (query + begin) * ld, ld, ld,
                    queries - begin, tiles.dk + (key + j) * ld, ld, true);
  }
}

template <class T>
void unpack_rows(const T* from, T factor, std::int64_t count, std::int64_t head_dim,
                 std::int64_t ld, HeadRows<T> to) {
  for (std::int64_t r = 0; r < count; ++r) {
    T* row = to.data + r * to.stride;
    for (std::int64_t c = 0; c < head_dim; ++c) row[c] = from[r * ld + c] * factor;
  }
}

}  // namespace

template <class T>
void attention_group_backward(const AttentionGroup<T>& head, T* workspace) {
  const std::int64_t n = head.seq_len;
  const std::int64_t d = head.head_dim;
  const std::int64_t dv = head.v_dim;
  const std::int64_t ld = attention_padded(d, kProductColumns);
  const std::int64_t ld_v = attention_padded(dv, kProductColumns);
  const std::int64_t rows = attention_padded(n, kTile);
  Workspace<T> space = {workspace};
  BackwardTiles<T> tiles = {};
  tiles.ld = ld;
  tiles.ld_v = ld_v;
  for (T** array : {&tiles.keys, &tiles.key_rows, &tiles.q, &tiles.dq, &tiles.dk}) {
    *array = space.take(rows * ld);
  }
  for (T** array : {&tiles.values, &tiles.dout, &tiles.dv}) *array = space.take(rows * ld_v);
  tiles.probabilities = space.take(kTile * kTile);
  tiles.dscores = space.take(kTile * kTile);
  pack_transposed(head.k, n, d, tiles.keys);
  pack_transposed(head.v, n, dv, tiles.values);
  pack_rows(head.k, T{1}, n, n, d, ld, tiles.key_rows);
  zero(tiles.dk, rows * ld);
  zero(tiles.dv, rows * ld_v);
  const std::int64_t padded = attention_padded(n, kGroup);
  for (std::int64_t h = 0; h < head.group; ++h) {
    pack_rows<T>({head.q.data + h * d, head.q.stride}, head.scale, n, padded, d, ld, tiles.q);
    pack_rows<T>({head.dout.data + h * dv, head.dout.stride}, T{1}, n, padded, dv, ld_v,
                 tiles.dout);
    zero(tiles.dq, padded * ld);
    tiles.lse = head.lse.data + h;
    tiles.delta = head.delta.data + h;
    tiles.lse_stride = head.lse.stride;
    for (std::int64_t key = 0; key < n; key += kTile) {
      for (std::int64_t query = key; query < n; query += kTile) {
        tile_gradient(head, tiles, query, key);
      }
    }
    unpack_rows<T>(tiles.dq, head.scale, n, d, ld, {head.dq.data + h * d, head.dq.stride});
  }
  unpack_rows(tiles.dk, T{1}, n, d, ld, head.dk);
  unpack_rows(tiles.dv, T{1}, n, dv, ld_v, head.dv);
}

template void attention_group_backward(const AttentionGroup<float>&, float*);
template void attention_group_backward(const AttentionGroup<double>&, double*);

}  // namespace witan::cpu::WITAN_ISA
