// Backward, by blocks of 64 keys and 64 queries. Scores are computed transposed, S^T = K Q^T: as
// rows of keys, P^T and dS^T are what dv = P^T dout and dk = dS^T q multiply from the left, and two
// rows of dS^T side by side are what dq^T = k^T dS^T multiplies from the right. So nothing of a
// block is transposed; dq is, once a head.
#include "core/ops/cpu/attention_amx.h"

namespace witan::cpu::WITAN_ISA {
namespace {

constexpr std::int64_t kBlock = kAmxBlock;
constexpr std::int64_t kHalf = 2 * kTile;  // of a block
constexpr std::int64_t kBlockChunks = kBlock / kTerms;

struct BackwardTiles {
  // Of the key head. A: lines are keys and terms elements, or the other way round in blocks.
  Value* keys;
  Value* keys_across;
  Value* values;
  float* dk;  // [rows, ld], without the scale
  float* dv;  // [rows, ld_v]
  // Of a query head. B: lines are queries and terms elements, or the other way round in blocks.
  Value* q;
  Value* q_across;
  Value* dout;
  Value* dout_across;
  float* dq;                // [blocks, ld, kBlock], transposed, without the scale
  float* lse;               // [rows] in powers of 2
  float* delta;             // [rows]
  std::int32_t* first_key;  // [rows], beyond every key behind the last query
  // Of a block: rows are keys, columns queries.
  float* scores;          // [kBlock, kBlock]
  float* dprobabilities;  // [kBlock, kBlock]
  Value* p;               // A
  Value* ds;              // A
  Value* ds_terms;        // B: lines are queries, terms keys
  std::int64_t rows, ld, ld_v;
  std::int64_t depth, depth_v;  // values of a group over head_dim, v_dim
};

// The quarter of a block at key 32 a and query 32 b: P^T and dS^T from S^T and dP^T.
void gradient_of_scores(const BackwardTiles& tiles, std::int64_t key, std::int64_t query,
                        std::int64_t a, std::int64_t b, float scale) {
  const std::int64_t first_query = query + b * kHalf;
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i at[2];
  __m512i first_key[2];
  Pairs lse[2];
  Pairs delta[2];
  for (int v = 0; v < 2; ++v) {
    const std::int64_t i = first_query + v * kTile;
    at[v] = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(i)), lane);
    first_key[v] = _mm512_loadu_si512(tiles.first_key + i);
    lse[v] = load(tiles.lse + i);
    delta[v] = load(tiles.delta + i);
  }
  for (std::int64_t pair = 0; pair < kTile; ++pair) {
    Pairs ds[2][2];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
      const std::int64_t line = 2 * pair + r;
      const std::int64_t row = a * kHalf + line;
      const std::int64_t column = row * kBlock + b * kHalf;
      const __m512i this_key = _mm512_set1_epi32(static_cast<int>(key + row));
      Pairs p[2];
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const __mmask16 seen = _mm512_mask_cmple_epi32_mask(
            _mm512_cmple_epi32_mask(first_key[v], this_key), this_key, at[v]);
        p[v] = exp2(seen, load(tiles.scores + column + v * kTile) * scale - lse[v]);
        ds[r][v] = p[v] * (load(tiles.dprobabilities + column + v * kTile) - delta[v]);
      }
      const std::int64_t to = ((row / kTile) * kBlockChunks + b) * kPacked + line % kTile * kTerms;
      const Pairs rounded_p = pairs_of_neighbours(p[0], p[1]);
      const Pairs rounded_ds = pairs_of_neighbours(ds[r][0], ds[r][1]);
      std::memcpy(tiles.p + to, &rounded_p, sizeof(Pairs));
      std::memcpy(tiles.ds + to, &rounded_ds, sizeof(Pairs));
    }
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const Pairs rounded = pairs_of_lanes(ds[0][v], ds[1][v]);
      std::memcpy(tiles.ds_terms + ((2 * b + v) * kBlockChunks + a) * kPacked + pair * kTerms,
                  &rounded, sizeof(Pairs));
    }
  }
}

// One block of keys and one of queries, which is not before it.
void block_gradient(const AttentionGroup<float>& head, const BackwardTiles& tiles, std::int64_t key,
                    std::int64_t query) {
  const std::int64_t key_halves = ceil_div(smaller(kBlock, head.seq_len - key), kHalf);
  const std::int64_t query_halves = ceil_div(smaller(kBlock, head.seq_len - query), kHalf);
  const bool diagonal = key == query;
  const auto group = [](const Value* data, std::int64_t line, std::int64_t depth) {
    return PackedLines{data + line / kTile * depth, depth};
  };
  for (std::int64_t a = 0; a < key_halves; ++a) {
    const std::int64_t begin = diagonal ? a : 0;  // queries before these keys do not see them
    for (std::int64_t b = begin; b < query_halves; ++b) {
      const std::int64_t corner = a * kHalf * kBlock + b * kHalf;
      const std::int64_t k = key + a * kHalf;
      const std::int64_t q = query + b * kHalf;
      multiply<2, 2>(tiles.depth / kPacked, group(tiles.keys, k, tiles.depth),
                     group(tiles.q, q, tiles.depth), tiles.scores + corner, kBlock, false);
      multiply<2, 2>(tiles.depth_v / kPacked, group(tiles.values, k, tiles.depth_v),
                     group(tiles.dout, q, tiles.depth_v), tiles.dprobabilities + corner, kBlock,
                     false);
      gradient_of_scores(tiles, key, query, a, b, head.scale * kLog2e);
    }
    const std::int64_t left = (2 * a * kBlockChunks + begin) * kPacked;
    const std::int64_t row = key + a * kHalf;
    const std::int64_t across = query_halves * kPacked;
    add_product(kHalf, tiles.ld_v, query_halves - begin, {tiles.p + left, kBlockChunks * kPacked},
                {tiles.dout_across + query * tiles.ld_v + begin * kPacked, across},
                tiles.dv + row * tiles.ld_v, tiles.ld_v);
    add_product(kHalf, tiles.ld, query_halves - begin, {tiles.ds + left, kBlockChunks * kPacked},
                {tiles.q_across + query * tiles.ld + begin * kPacked, across},
                tiles.dk + row * tiles.ld, tiles.ld);
  }
  for (std::int64_t b = 0; b < query_halves; ++b) {
    const std::int64_t chunks = diagonal ? smaller(b + 1, key_halves) : key_halves;
    add_product(tiles.ld, kHalf, chunks, {tiles.keys_across + key * tiles.ld, key_halves * kPacked},
                {tiles.ds_terms + 2 * b * kBlockChunks * kPacked, kBlockChunks * kPacked},
                tiles.dq + query * tiles.ld + b * kHalf, kBlock);
  }
}

// What the backward reads of query head h.
void pack_head(const AttentionGroup<float>& head, std::int64_t h, const BackwardTiles& tiles) {
  const std::int64_t n = head.seq_len;
  const float* q = head.q.data + h * head.head_dim;
  const float* dout = head.dout.data + h * head.v_dim;
  pack_lines({q, head.q.stride, false, false}, n, head.head_dim, tiles.q);
  pack_blocks({q, head.q.stride, true, false}, head.head_dim, n, kBlock, tiles.q_across);
  pack_lines({dout, head.dout.stride, false, false}, n, head.v_dim, tiles.dout);
  pack_blocks({dout, head.dout.stride, true, false}, head.v_dim, n, kBlock, tiles.dout_across);
  for (std::int64_t i = 0; i < tiles.rows; ++i) {
    tiles.lse[i] = i < n ? head.lse.data[i * head.lse.stride + h] * kLog2e : 0;
    tiles.delta[i] = i < n ? head.delta.data[i * head.delta.stride + h] : 0;
  }
}

// to [seq_len, head_dim] = the transpose of from [blocks, ld, kBlock], times the scale.
void unpack_transposed(const AttentionGroup<float>& head, const float* from, std::int64_t ld,
                       HeadRows<float> to) {
  for (std::int64_t row = 0; row < head.seq_len; row += kTile) {
    const float* block = from + row / kBlock * kBlock * ld + row % kBlock;
    const std::int64_t rows = smaller(kTile, head.seq_len - row);
    for (std::int64_t c = 0; c < head.head_dim; c += kTile) {
      const Part part{static_cast<int>(smaller(kTile, head.head_dim - c))};
      Pairs square[kTile];
#pragma GCC unroll 16
      for (int i = 0; i < kTile; ++i) square[i] = load(block + (c + i) * kBlock) * head.scale;
      transpose<float>(square);
      for (std::int64_t i = 0; i < rows; ++i) {
        store(to.data + (row + i) * to.stride + c, square[i], part);
      }
    }
  }
}

void unpack_rows(const float* from, float factor, std::int64_t rows, std::int64_t columns,
                 std::int64_t ld, HeadRows<float> to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for_each_vec<float>(columns, [&](std::int64_t c, auto part) WITAN_LAMBDA {
      store(to.data + r * to.stride + c, load(from + r * ld + c, part) * factor, part);
    });
  }
}

void zero(float* to, std::int64_t count) {
  std::memset(to, 0, static_cast<std::size_t>(count) * sizeof(float));
}

BackwardTiles cut(const AttentionGroup<float>& head, float* workspace) {
  BackwardTiles tiles = {};
  tiles.rows = padded(head.seq_len, kBlock);
  tiles.ld = padded(head.head_dim, kTile);
  tiles.ld_v = padded(head.v_dim, kTile);
  const std::int64_t d = padded(head.head_dim, kTerms);
  const std::int64_t dv = padded(head.v_dim, kTerms);
  tiles.depth = d * kTile;
  tiles.depth_v = dv * kTile;
  AmxWorkspace space{workspace};
  for (Value** packed : {&tiles.keys, &tiles.q}) *packed = space.take_packed(tiles.rows * d);
  for (Value** packed : {&tiles.values, &tiles.dout}) *packed = space.take_packed(tiles.rows * dv);
  for (Value** packed : {&tiles.keys_across, &tiles.q_across}) {
    *packed = space.take_packed(tiles.rows * tiles.ld);
  }
  tiles.dout_across = space.take_packed(tiles.rows * tiles.ld_v);
  for (Value** packed : {&tiles.p, &tiles.ds, &tiles.ds_terms}) {
    *packed = space.take_packed(kBlock * kBlock);
  }
  tiles.scores = space.take(kBlock * kBlock);
  tiles.dprobabilities = space.take(kBlock * kBlock);
  tiles.dq = space.take(tiles.rows * tiles.ld);
  tiles.dk = space.take(tiles.rows * tiles.ld);
  tiles.dv = space.take(tiles.rows * tiles.ld_v);
  tiles.lse = space.take(tiles.rows);
  tiles.delta = space.take(tiles.rows);
  tiles.first_key = reinterpret_cast<std::int32_t*>(space.take(tiles.rows));
  return tiles;
}

}  // namespace

void attention_group_backward(const AttentionGroup<float>& head, float* workspace) {
  const std::int64_t n = head.seq_len;
  const BackwardTiles tiles = cut(head, workspace);
  _tile_loadconfig(&kTileConfig);
  pack_lines({head.k.data, head.k.stride, false, true}, n, head.head_dim, tiles.keys);
  pack_blocks({head.k.data, head.k.stride, true, true}, head.head_dim, n, kBlock,
              tiles.keys_across);
  pack_lines({head.v.data, head.v.stride, false, true}, n, head.v_dim, tiles.values);
  zero(tiles.dk, tiles.rows * tiles.ld);
  zero(tiles.dv, tiles.rows * tiles.ld_v);
  for (std::int64_t i = 0; i < tiles.rows; ++i) {
    tiles.first_key[i] = i < n ? head.first_key[i] : INT32_MAX;
  }
  for (std::int64_t h = 0; h < head.group; ++h) {
    pack_head(head, h, tiles);
    zero(tiles.dq, tiles.rows * tiles.ld);
    for (std::int64_t query = 0; query < n; query += kBlock) {
      std::int64_t lowest = query;
      for (std::int64_t i = query; i < smaller(n, query + kBlock); ++i) {
        lowest = smaller(lowest, head.first_key[i]);
      }
      for (std::int64_t key = lowest / kBlock * kBlock; key <= query; key += kBlock) {
        block_gradient(head, tiles, key, query);
      }
    }
    unpack_transposed(head, tiles.dq, tiles.ld, {head.dq.data + h * head.head_dim, head.dq.stride});
  }
  unpack_rows(tiles.dk, head.scale, n, head.head_dim, tiles.ld, head.dk);
  unpack_rows(tiles.dv, 1, n, head.v_dim, tiles.ld_v, head.dv);
  _tile_release();
}

}  // namespace witan::cpu::WITAN_ISA
