// Forward: 32 queries against 128 keys at a time; S = Q K^T and P V on the tiles, the softmax
// between them in vectors. K and V are packed once a head.
#include "core/ops/cpu/attention_amx.h"

namespace witan::cpu::WITAN_ISA {
namespace {

constexpr std::int64_t kQueries = kAmxQueries;
constexpr std::int64_t kKeys = kAmxKeys;
constexpr std::int64_t kKeyChunks = kKeys / kTerms;
constexpr float kMinusInfinity = -__builtin_inff();
constexpr float kLag = 8 * kLog2e;  // see RunningSoftmax in attention_kernels.cc

struct ForwardTile {
  const AttentionHead<float>& head;
  Value* keys;            // B: lines are keys, terms head_dim
  Value* values;          // B: lines are elements of v, terms keys, in blocks of kKeys
  Value* q;               // A: lines are queries, terms head_dim
  Value* p;               // A: lines are queries, terms keys
  float* scores;          // [kQueries, kKeys]
  float* out;             // [kQueries, ld_v]
  float* sums;            // [kQueries, 16]
  float shift[kQueries];  // in powers of 2: sum and out are 2^shift times too small
  std::int64_t ld_v;
  std::int64_t depth;  // values of a group over head_dim
  float scale;         // of scores, in powers of 2
};

// The shift of row i follows the largest of its scores.
void raise_shift(ForwardTile& tile, std::int64_t i, float largest) {
  const float before = tile.shift[i];
  tile.shift[i] = largest;
  if (before == kMinusInfinity) return;  // the first keys: sum and out are 0
  const Pairs shrink = exp2(0xFFFF, broadcast(before - largest));
  store(tile.sums + i * kTile, load(tile.sums + i * kTile) * shrink);
  float* out = tile.out + i * tile.ld_v;
  for (std::int64_t c = 0; c < tile.ld_v; c += kTile) store(out + c, load(out + c) * shrink);
}

// Scores of row i -> probabilities, of the columns [begin, end); 0 in the others of `columns`.
WITAN_INLINE void absorb_row(ForwardTile& tile, std::int64_t i, std::int64_t columns,
                             std::int64_t begin, std::int64_t end) {
  const float* scores = tile.scores + i * kKeys;
  Value* to = tile.p + i / kTile * kKeyChunks * kPacked + i % kTile * kTerms;
  const auto lanes = [&](std::int64_t j) WITAN_LAMBDA {
    return static_cast<__mmask16>(lanes_below(end - j) & ~lanes_below(begin - j));
  };
  __m512 best = _mm512_set1_ps(kMinusInfinity);
  for (std::int64_t j = 0; j < columns; j += kTile) {
    best = _mm512_mask_max_ps(best, lanes(j), best, (__m512)load(scores + j));
  }
  const Pairs largest = (Pairs)best * tile.scale;
  if (_mm512_cmp_ps_mask((__m512)largest, _mm512_set1_ps(tile.shift[i] + kLag), _CMP_GT_OQ) != 0) {
    raise_shift(tile, i, max_lanes(largest));
  }
  const float shift = tile.shift[i];
  Pairs sum = load(tile.sums + i * kTile);
  for (std::int64_t j = 0; j < columns; j += kTerms) {
    const Pairs low = exp2(lanes(j), load(scores + j) * tile.scale - shift);
    const Pairs high = exp2(lanes(j + kTile), load(scores + j + kTile) * tile.scale - shift);
    sum += low;
    sum += high;
    const Pairs rounded = pairs_of_neighbours(low, high);
    std::memcpy(to + j / kTerms * kPacked, &rounded, sizeof(rounded));
  }
  store(tile.sums + i * kTile, sum);
}

// `count` queries from `first` on against the keys from `key` on that they see.
void absorb_keys(ForwardTile& tile, std::int64_t first, std::int64_t count, std::int64_t key) {
  const AttentionHead<float>& head = tile.head;
  const std::int64_t position = head.keys - head.queries + first;
  const std::int64_t columns = padded(smaller(kKeys, position + count - key), kTerms);
  const std::int64_t chunks_d = tile.depth / kPacked;
  for (std::int64_t j = 0; j < columns; j += kTerms) {
    multiply<2, 2>(chunks_d, {tile.q, tile.depth},
                   {tile.keys + (key + j) / kTile * tile.depth, tile.depth}, tile.scores + j, kKeys,
                   false);
  }
  for (std::int64_t i = 0; i < kQueries; ++i) {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    if (i < count) {
      begin = head.first_key == nullptr ? 0 : head.first_key[first + i] - key;
      end = smaller(columns, position + i + 1 - key);
    }
    absorb_row(tile, i, columns, begin, end);
  }
  const std::int64_t block = smaller(kKeys, head.keys - key);
  add_product(kQueries, tile.ld_v, columns / kTerms, {tile.p, kKeyChunks * kPacked},
              {tile.values + key * tile.ld_v, ceil_div(block, kTerms) * kPacked}, tile.out,
              tile.ld_v);
}

void attend(ForwardTile& tile, std::int64_t first, std::int64_t count) {
  const AttentionHead<float>& head = tile.head;
  pack_lines({head.q.data + first * head.q.stride, head.q.stride, false, true}, count,
             head.head_dim, tile.q);
  std::memset(tile.out, 0, static_cast<std::size_t>(kQueries * tile.ld_v) * sizeof(float));
  std::memset(tile.sums, 0, static_cast<std::size_t>(kQueries * kTile) * sizeof(float));
  std::int64_t lowest = head.first_key == nullptr ? 0 : head.keys;
  for (std::int64_t i = 0; i < count; ++i) {
    tile.shift[i] = kMinusInfinity;
    if (head.first_key != nullptr) lowest = smaller(lowest, head.first_key[first + i]);
  }
  const std::int64_t last = head.keys - head.queries + first + count - 1;  // position
  for (std::int64_t key = lowest / kKeys * kKeys; key <= last; key += kKeys) {
    absorb_keys(tile, first, count, key);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const float sum = sum_lanes(load(tile.sums + i * kTile));
    const float inverse = 1 / sum;
    float* out = head.out.data + (first + i) * head.out.stride;
    for_each_vec<float>(head.v_dim, [&](std::int64_t c, auto part) WITAN_LAMBDA {
      store(out + c, load(tile.out + i * tile.ld_v + c, part) * inverse, part);
    });
    if (head.lse.data != nullptr) {
      const auto shift = static_cast<double>(tile.shift[i]) / static_cast<double>(kLog2e);
      head.lse.data[(first + i) * head.lse.stride] =
          static_cast<float>(shift + __builtin_log(static_cast<double>(sum)));
    }
  }
}

}  // namespace

void attention_head(const AttentionHead<float>& head, float* workspace) {
  const std::int64_t rows = padded(head.keys, kKeys);
  const std::int64_t d = padded(head.head_dim, kTerms);
  const std::int64_t ld_v = padded(head.v_dim, kTile);
  AmxWorkspace space{workspace};
  ForwardTile tile{.head = head,
                   .keys = space.take_packed(rows * d),
                   .values = space.take_packed(rows * ld_v),
                   .q = space.take_packed(kQueries * d),
                   .p = space.take_packed(kQueries * kKeys),
                   .scores = space.take(kQueries * kKeys),
                   .out = space.take(kQueries * ld_v),
                   .sums = space.take(kQueries * kTile),
                   .shift = {},
                   .ld_v = ld_v,
                   .depth = d * kTile,
                   .scale = head.scale * kLog2e};
  _tile_loadconfig(&kTileConfig);
  pack_lines({head.k.data, head.k.stride, false, false}, head.keys, head.head_dim, tile.keys);
  pack_blocks({head.v.data, head.v.stride, true, false}, head.v_dim, head.keys, kKeys, tile.values);
  for (std::int64_t first = 0; first < head.queries; first += kQueries) {
    attend(tile, first, smaller(kQueries, head.queries - first));
  }
  _tile_release();
}

}  // namespace witan::cpu::WITAN_ISA
