#include "core/ops/cpu/attention_kernels.h"

#include "core/ops/cpu/attention_tiles.h"

namespace witan::cpu::WITAN_ISA {
namespace {

template <class T>
constexpr T kMinusInfinity = -static_cast<T>(__builtin_inff());

// The running softmax of one query: `sum` and its row of out are exp(shift) times too small. The
// shift follows the largest score, but only when it falls behind by more than kLag: exponentials up
// to exp(kLag) do no harm, and out is rarely scaled again.
template <class T>
struct RunningSoftmax {
  static constexpr T kLag = 8;
  T shift;
  T sum;

  // scores -> exp(scores - shift), as operands of a product.
  WITAN_INLINE void absorb(T* scores, std::int64_t begin, std::int64_t end, T* out, std::int64_t ld,
                           bool rounded) {
    Vec<T> best = load(scores + begin);
    for (std::int64_t j = begin + kLanes<T>; j < end; j += kLanes<T>) {
      best = max_of(best, load(scores + j));
    }
    const T largest = max_lanes(best);
    if (shift == kMinusInfinity<T>) {
      shift = largest;  // the first keys: sum and out are 0
    } else if (largest > shift + kLag) {
      const T shrink = exp(broadcast(shift - largest))[0];
      shift = largest;
      sum *= shrink;
      for (std::int64_t c = 0; c < ld; c += kLanes<T>) store(out + c, load(out + c) * shrink);
    }
    Vec<T> total = {};
    for (std::int64_t j = begin; j < end; j += kLanes<T>) {
      const Vec<T> p = exp(load(scores + j) - shift);
      store(scores + j, operand(p, rounded));
      total += p;
    }
    sum += sum_lanes(total);
  }
};

// Everything one tile of queries needs.
template <class T>
struct ForwardTile {
  T* keys;    // transposed tiles [head_dim, kTile]
  T* values;  // [keys, ld_v]
  T* q;       // [kTile, ld], scaled
  T* out;     // [kTile, ld_v]
  T* scores;  // [kGroup, kTile]
  RunningSoftmax<T>* softmax;
  std::int64_t ld;
  std::int64_t ld_v;
};

// Queries [query, query + count) of the tile that begins at `first`, against one tile of keys.
template <class T>
WITAN_INLINE void absorb_keys(const AttentionHead<T>& head, const ForwardTile<T>& tile,
                              std::int64_t first, std::int64_t query, std::int64_t count,
                              std::int64_t first_of_tile) {
  const std::int64_t offset = head.keys - head.queries;
  const Span columns = group_keys(head.first_key, query, count, offset, first_of_tile);
  if (columns.empty()) return;
  const std::int64_t row = query - first;
  T* scores = tile.scores;
  tile_product<T>({tile.q + row * tile.ld, tile.ld, 1},
                  tile.keys + first_of_tile * head.head_dim + columns.begin, kTile,
                  columns.end - columns.begin, head.head_dim, scores + columns.begin, kTile, false);
  for (std::int64_t i = 0; i < kGroup; ++i) {
    T* p = scores + i * kTile;
    const std::int64_t first_key = head.first_key == nullptr || i >= count
                                       ? 0
                                       : static_cast<std::int64_t>(head.first_key[query + i]);
    const Span visible = visible_keys(offset + query + i, first_key, first_of_tile);
    if (i >= count || visible.empty()) {
      for (std::int64_t j = columns.begin; j < columns.end; ++j) p[j] = 0;
      continue;
    }
    mask_row(p, columns, visible);
    tile.softmax[row + i].absorb(p, columns.begin, columns.end, tile.out + (row + i) * tile.ld_v,
                                 tile.ld_v, head.rounded);
  }
  const std::int64_t seen = head.keys - first_of_tile;
  const std::int64_t end = columns.end < seen ? columns.end : seen;
  tile_product<T>({scores + columns.begin, kTile, 1},
                  tile.values + (first_of_tile + columns.begin) * tile.ld_v, tile.ld_v, tile.ld_v,
                  end - columns.begin, tile.out + row * tile.ld_v, tile.ld_v, true);
}

template <class T>
void attend_tile(const AttentionHead<T>& head, const ForwardTile<T>& tile, std::int64_t first,
                 std::int64_t count) {
  const std::int64_t padded = attention_padded(count, kGroup);
  pack_rows<T>({head.q.data + first * head.q.stride, head.q.stride}, head.scale, count, padded,
               head.head_dim, tile.ld, tile.q);
  for (std::int64_t i = 0; i < padded * tile.ld_v; ++i) tile.out[i] = 0;
  for (std::int64_t i = 0; i < count; ++i) tile.softmax[i] = {kMinusInfinity<T>, 0};

  const std::int64_t last = head.keys - head.queries + first + count - 1;  // position
  for (std::int64_t key = 0; key <= last; key += kTile) {
    for (std::int64_t i = 0; i < count; i += kGroup) {
      const std::int64_t left = count - i;
      absorb_keys(head, tile, first, first + i, left < kGroup ? left : kGroup, key);
    }
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const RunningSoftmax<T>& softmax = tile.softmax[i];
    const T inverse = 1 / softmax.sum;
    T* out = head.out.data + (first + i) * head.out.stride;
    for_each_vec<T>(head.v_dim, [&](std::int64_t c, auto part) WITAN_LAMBDA {
      store(out + c, load(tile.out + i * tile.ld_v + c, part) * inverse, part);
    });
    if (head.lse.data != nullptr) {
      head.lse.data[(first + i) * head.lse.stride] =
          softmax.shift + static_cast<T>(__builtin_log(static_cast<double>(softmax.sum)));
    }
  }
}

}  // namespace

template <class T>
void attention_head(const AttentionHead<T>& head, T* workspace) {
  const std::int64_t ld = attention_padded(head.head_dim, kProductColumns);
  const std::int64_t ld_v = attention_padded(head.v_dim, kProductColumns);
  const std::int64_t rows = attention_padded(head.keys, kTile);
  Workspace<T> space = {workspace};
  RunningSoftmax<T> softmax[kTile];
  ForwardTile<T> tile = {};
  tile.ld = ld;
  tile.ld_v = ld_v;
  tile.keys = space.take(rows * ld);
  tile.values = space.take(rows * ld_v);
  tile.q = space.take(kTile * ld);
  tile.out = space.take(kTile * ld_v);
  tile.scores = space.take(kGroup * kTile);
  tile.softmax = softmax;
  pack_transposed(head.k, head.keys, head.head_dim, tile.keys);
  pack_rows(head.v, T{1}, head.keys, head.keys, head.v_dim, ld_v, tile.values);
  for (std::int64_t first = 0; first < head.queries; first += kTile) {
    const std::int64_t left = head.queries - first;
    attend_tile(head, tile, first, left < kTile ? left : kTile);
  }
}

template <class T>
void attention_few_queries(const AttentionHead<T>& head) {
  constexpr std::int64_t kStep = kTile;
  const std::int64_t d = head.head_dim;
  const std::int64_t dv = head.v_dim;
  T scores[kStep];
  for (std::int64_t i = 0; i < head.queries; ++i) {
    const T* q = head.q.data + i * head.q.stride;
    T* out = head.out.data + i * head.out.stride;
    const std::int64_t end = head.keys - head.queries + i + 1;
    T max = kMinusInfinity<T>;
    T sum = 0;
    for (std::int64_t c = 0; c < dv; ++c) out[c] = 0;
    for (std::int64_t first = head.first_key == nullptr ? 0 : head.first_key[i]; first < end;
         first += kStep) {
      const std::int64_t count = end - first < kStep ? end - first : kStep;
      T largest = max;
      for (std::int64_t j = 0; j < count; ++j) {
        const T* k = head.k.data + (first + j) * head.k.stride;
        Vec<T> dot = {};
        for_each_vec<T>(d, [&](std::int64_t c, auto part)
                               WITAN_LAMBDA { dot += load(q + c, part) * load(k + c, part); });
        scores[j] = sum_lanes(dot) * head.scale;
        largest = scores[j] > largest ? scores[j] : largest;
      }
      const T shrink = exp(broadcast(max - largest))[0];
      max = largest;
      sum *= shrink;
      for_each_vec<T>(dv, [&](std::int64_t c, auto part)
                              WITAN_LAMBDA { store(out + c, load(out + c, part) * shrink, part); });
      for_each_vec<T>(count, [&](std::int64_t j, auto part) WITAN_LAMBDA {
        store(scores + j, exp(load(scores + j, part) - max), part);
      });
      for (std::int64_t j = 0; j < count; ++j) {
        const T* v = head.v.data + (first + j) * head.v.stride;
        const T p = scores[j];
        sum += p;
        for_each_vec<T>(dv, [&](std::int64_t c, auto part) WITAN_LAMBDA {
          store(out + c, load(out + c, part) + load(v + c, part) * p, part);
        });
      }
    }
    const T inverse = 1 / sum;
    for (std::int64_t c = 0; c < dv; ++c) out[c] *= inverse;
  }
}

template <class T>
void attention_delta(const T* dout, const T* out, T* delta, std::int64_t rows,
                     std::int64_t head_dim) {
  for (std::int64_t r = 0; r < rows; ++r) {
    VecDouble dot = {};
    for_each_vec<double>(head_dim, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      dot += load_wide(dout + r * head_dim + i, part) * load_wide(out + r * head_dim + i, part);
    });
    delta[r] = static_cast<T>(sum_lanes(dot));
  }
}

#define WITAN_INSTANTIATE(T)                                    \
  template void attention_head(const AttentionHead<T>&, T*);    \
  template void attention_few_queries(const AttentionHead<T>&); \
  template void attention_delta(const T*, const T*, T*, std::int64_t, std::int64_t);
WITAN_INSTANTIATE(float)
WITAN_INSTANTIATE(double)

}  // namespace witan::cpu::WITAN_ISA
