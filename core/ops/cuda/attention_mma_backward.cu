// Attention's backward on the tensor cores, in two passes, so that every gradient is summed by one
// block in one order: a pass over tiles of queries for dq, one over tiles of keys for dk and dv.
// With P the probabilities and dS = P (dP - delta), dP = dout v^T: dq = scale dS k,
// dk = scale dS^T q, dv = P^T dout. Both passes compute P and dS again, in registers, and copy the
// next tile to shared memory while they work on one.
#include <cstdint>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/attention_mma.h"
#include "core/ops/cuda/attention_mma_operands.h"
#include "core/ops/cuda/attention_mma_tiles.h"
#include "core/ops/cuda/grid.h"
#include "core/ops/cuda/narrow.h"
#include "core/tensor/cuda_scratch.h"

namespace witan::ops::cuda {
namespace {

// The tile that stays: queries for dq, keys for dk and dv; 16 rows a warp.
constexpr int kRows = kMmaWarps * kMmaRows;

// The tile that passes, in two stages. Wide heads leave registers and shared memory for half of it.
template <class H>
constexpr int kPassing = H::kQk <= 64 ? 64 : 32;

// Blocks that share the columns of dk and dv (each of them computes P and dS), where one block's
// registers do not hold them.
template <class H>
constexpr int kShares = H::kQk + H::kV > 320 ? 2 : 1;

template <class H, int kTileRows>
constexpr int kBothTiles = kTileElements<kTileRows, H::kQk> + kTileElements<kTileRows, H::kV>;

template <class H>
constexpr std::size_t kTileBytes = (kBothTiles<H, kRows> +
                                    2 * kBothTiles<H, kPassing<H>>)*sizeof(std::uint16_t);

// P and dS of one block of 16 rows, in place of the scores and of dP. visible(row, column) and
// shift(row, column): whether the pair counts, and where its row's lse and delta are.
template <int kColumns, class Visible>
__device__ void probabilities(MmaSums<kColumns>& scores, MmaSums<kColumns>& gradient, float factor,
                              const Visible& visible) {
  WITAN_UNROLL
  for (int j = 0; j < kColumns / 8; ++j) {
    WITAN_UNROLL
    for (int i = 0; i < 4; ++i) {
      float lse = 0;
      float delta = 0;
      const bool counts = visible(i / 2, 8 * j + lane_column() + i % 2, lse, delta);
      const float p = counts ? exp2f(scores[j][i] * factor - lse * kLog2e) : 0.0f;
      scores[j][i] = p;
      gradient[j][i] = p * (gradient[j][i] - delta);
    }
  }
}

// Block (tile of queries, head, sequence). Rounded operands, as AttentionLayout says.
template <class H>
__global__ void attention_mma_dq_kernel(AttentionLayout layout, const std::uint16_t* dout,
                                        const std::uint16_t* q, const std::uint16_t* k,
                                        const std::uint16_t* v, const std::int32_t* first_key,
                                        const float* lse, const float* delta, float* dq) {
  constexpr int kKeys = kPassing<H>;
  std::uint16_t* q_tile = dynamic_shared<std::uint16_t>();
  std::uint16_t* dout_tile = q_tile + kTileElements<kRows, H::kQk>;
  std::uint16_t* stages = q_tile + kBothTiles<H, kRows>;
  const std::int64_t head = blockIdx.y;
  const std::int64_t sequence = blockIdx.z;
  const std::int64_t query = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * kRows;
  const std::int64_t left = layout.queries - query;
  const std::int64_t rows = left < kRows ? left : kRows;
  const std::int64_t token = sequence * layout.queries + query;
  const std::int64_t q_at = token * layout.q_row + head * layout.head_dim;
  k += sequence * layout.k_sequence + head / layout.group * layout.head_dim;
  v += sequence * layout.v_sequence + head / layout.group * layout.v_head;
  first_key += token;
  const std::int64_t begin = lowest_first_key(first_key, 0, rows) / kKeys * kKeys;
  const std::int64_t end = query + rows;

  const auto copy_stage = [&](std::int64_t key) {
    if (key < end) {
      std::uint16_t* stage = stages + (key - begin) / kKeys % 2 * kBothTiles<H, kKeys>;
      const std::int64_t count = layout.queries - key;
      copy_tile<kKeys, H::kQk>(k + key * layout.k_row, layout.k_row, count, layout.head_dim, stage);
      copy_tile<kKeys, H::kV>(v + key * layout.v_row, layout.v_row, count, layout.v_dim,
                              stage + kTileElements<kKeys, H::kQk>);
    }
    commit_copies();
  };
  copy_tile<kRows, H::kQk>(q + q_at, layout.q_row, rows, layout.head_dim, q_tile);
  copy_tile<kRows, H::kV>(dout + (token * layout.heads + head) * layout.v_dim,
                          layout.heads * layout.v_dim, rows, layout.v_dim, dout_tile);
  copy_stage(begin);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * kMmaRows;
  const float factor = static_cast<float>(layout.scale) * kLog2e;
  std::int64_t first[2];
  float row_lse[2];
  float row_delta[2];
  WITAN_UNROLL
  for (int h = 0; h < 2; ++h) {
    const std::int64_t r = warp_row + lane_row(h);
    const std::int64_t at = (token + r) * layout.heads + head;
    first[h] = r < rows ? first_key[r] : end;  // nothing
    row_lse[h] = r < rows ? lse[at] : 0.0f;
    row_delta[h] = r < rows ? delta[at] : 0.0f;
  }
  MmaSums<H::kQk> sums[1] = {};
  for (std::int64_t key = begin; key < end; key += kKeys) {
    wait_for_copies<0>();
    __syncthreads();  // this stage is there, the other one has been read
    copy_stage(key + kKeys);
    const std::uint16_t* k_tile = stages + (key - begin) / kKeys % 2 * kBothTiles<H, kKeys>;
    const std::uint16_t* v_tile = k_tile + kTileElements<kKeys, H::kQk>;
    if (warp_row >= rows || key >= query + warp_row + kMmaRows) continue;  // the warp sees nothing
    MmaSums<kKeys> scores[1];
    MmaSums<kKeys> gradient[1];
    multiply_rows<1, kKeys, H::kQk>(q_tile, warp_row, k_tile, scores);
    multiply_rows<1, kKeys, H::kV>(dout_tile, warp_row, v_tile, gradient);
    const int last = static_cast<int>(query - key) + warp_row;
    const int from[2] = {static_cast<int>(first[0] - key), static_cast<int>(first[1] - key)};
    probabilities<kKeys>(scores[0], gradient[0], factor,
                         [&](int h, int column, float& row_shift, float& gradient_shift) {
                           row_shift = row_lse[h];
                           gradient_shift = row_delta[h];
                           return column >= from[h] && column <= last + lane_row(h);
                         });
    add_weighted_rows<1, kKeys, H::kQk, H::kQk>(gradient, k_tile, 0, sums);
  }
  const float scale = static_cast<float>(layout.scale);
  store_sums<H::kQk>(sums[0], {scale, scale}, warp_row, 0, rows, layout.head_dim, layout.q_row,
                     dq + q_at);
}

// Block (tile of keys, key head, sequence and share of the columns); rows of P are keys here. The
// queries of the group's heads pass by, head after head.
template <class H>
__global__ void attention_mma_dkv_kernel(AttentionLayout layout, std::int64_t batch,
                                         const std::uint16_t* dout, const std::uint16_t* q,
                                         const std::uint16_t* k, const std::uint16_t* v,
                                         const std::int32_t* first_key, const float* lse,
                                         const float* delta, float* dk, float* dv) {
  constexpr int kQueries = kPassing<H>;
  constexpr int kQkShare = H::kQk / kShares<H>;
  constexpr int kVShare = H::kV / kShares<H>;
  // Of a stage's queries: lse and delta, and the first visible key, counted from this tile's first.
  WITAN_SHARED(float[2][kQueries], lse_of);
  WITAN_SHARED(float[2][kQueries], delta_of);
  WITAN_SHARED(int[2][kQueries], first_of);
  std::uint16_t* k_tile = dynamic_shared<std::uint16_t>();
  std::uint16_t* v_tile = k_tile + kTileElements<kRows, H::kQk>;
  std::uint16_t* stages = k_tile + kBothTiles<H, kRows>;
  const std::int64_t kv_head = blockIdx.y;
  const std::int64_t sequence = blockIdx.z % batch;
  const int share = static_cast<int>(blockIdx.z / batch);
  const std::int64_t key = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const std::int64_t count = layout.queries - key < kRows ? layout.queries - key : kRows;
  const std::int64_t token = sequence * layout.queries;
  const std::int64_t k_at = (token + key) * layout.k_row + kv_head * layout.head_dim;
  const std::int64_t v_at = (token + key) * layout.v_row + kv_head * layout.v_head;
  first_key += token;
  const std::int64_t tiles =
      (end_of_queries(first_key, key, key + count, layout.queries) - key + kQueries - 1) / kQueries;
  const std::int64_t stage_count = layout.group * tiles;

  // The queries of stage i: tile i % tiles of head i / tiles of the group.
  const auto copy_stage = [&](std::int64_t i) {
    if (i < stage_count) {
      const std::int64_t head = kv_head * layout.group + i / tiles;
      const std::int64_t query = key + i % tiles * kQueries;
      const std::int64_t left = layout.queries - query;
      const std::int64_t first = token + query;
      std::uint16_t* stage = stages + i % 2 * kBothTiles<H, kQueries>;
      copy_tile<kQueries, H::kQk>(q + first * layout.q_row + head * layout.head_dim, layout.q_row,
                                  left, layout.head_dim, stage);
      copy_tile<kQueries, H::kV>(dout + (first * layout.heads + head) * layout.v_dim,
                                 layout.heads * layout.v_dim, left, layout.v_dim,
                                 stage + kTileElements<kQueries, H::kQk>);
      const int r = static_cast<int>(threadIdx.x);
      if (r < kQueries) {
        const bool valid = r < left;
        const std::int64_t at = (first + (valid ? r : 0)) * layout.heads + head;
        copy_async<4>(&lse_of[i % 2][r], lse + at, valid);
        copy_async<4>(&delta_of[i % 2][r], delta + at, valid);
        // No key for queries that do not exist.
        first_of[i % 2][r] = valid ? static_cast<int>(first_key[query + r] - key) : kRows;
      }
    }
    commit_copies();
  };
  copy_tile<kRows, H::kQk>(k + k_at, layout.k_row, count, layout.head_dim, k_tile);
  copy_tile<kRows, H::kV>(v + v_at, layout.v_row, count, layout.v_dim, v_tile);
  copy_stage(0);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * kMmaRows;
  const float factor = static_cast<float>(layout.scale) * kLog2e;
  MmaSums<kQkShare> dk_sums[1] = {};
  MmaSums<kVShare> dv_sums[1] = {};
  for (std::int64_t i = 0; i < stage_count; ++i) {
    wait_for_copies<0>();
    __syncthreads();  // this stage is there, the other one has been read
    copy_stage(i + 1);
    const std::uint16_t* q_tile = stages + i % 2 * kBothTiles<H, kQueries>;
    const std::uint16_t* dout_tile = q_tile + kTileElements<kQueries, H::kQk>;
    if (warp_row >= count) continue;
    MmaSums<kQueries> scores[1];
    MmaSums<kQueries> gradient[1];
    multiply_rows<1, kQueries, H::kQk>(k_tile, warp_row, q_tile, scores);
    multiply_rows<1, kQueries, H::kV>(v_tile, warp_row, dout_tile, gradient);
    const int ahead = static_cast<int>(i % tiles) * kQueries;  // of the first key
    probabilities<kQueries>(scores[0], gradient[0], factor,
                            [&](int h, int column, float& row_shift, float& gradient_shift) {
                              row_shift = lse_of[i % 2][column];
                              gradient_shift = delta_of[i % 2][column];
                              const int position = warp_row + lane_row(h);
                              return position >= first_of[i % 2][column] &&
                                     position <= ahead + column;
                            });
    add_weighted_rows<1, kQueries, H::kV, kVShare>(scores, dout_tile, share * kVShare, dv_sums);
    add_weighted_rows<1, kQueries, H::kQk, kQkShare>(gradient, q_tile, share * kQkShare, dk_sums);
  }
  const float scale = static_cast<float>(layout.scale);
  store_sums<kQkShare>(dk_sums[0], {scale, scale}, warp_row, share * kQkShare, count,
                       layout.head_dim, layout.k_row, dk + k_at);
  store_sums<kVShare>(dv_sums[0], {1.0f, 1.0f}, warp_row, share * kVShare, count, layout.v_dim,
                      layout.v_row, dv + v_at);
}

}  // namespace

void attention_backward_mma(const Context& ctx, const AttentionShape& shape, const float* dout,
                            const float* qkv, const std::int32_t* first_key, const float* lse,
                            const float* delta, float* dqkv) {
  const AttentionLayout layout = joined_layout(shape);
  const std::int64_t elements = shape.batch * layout.q_sequence;
  const std::int64_t dout_elements = shape.batch * shape.seq_len * shape.heads * shape.value_dim();
  auto* q = static_cast<std::uint16_t*>(witan::cuda::scratch(
      ctx, static_cast<std::size_t>(elements + dout_elements) * sizeof(std::uint16_t)));
  std::uint16_t* rounded_dout = q + elements;
  narrow_operand(ctx, qkv, elements, q);
  narrow_operand(ctx, dout, dout_elements, rounded_dout);
  const unsigned tiles = grid_extent(blocks_of(shape.seq_len, kRows), kMaxGridX);
  dispatch_heads(shape, [&](auto heads) {
    using H = decltype(heads);
    launch(attention_mma_dq_kernel<H>,
           dim3(tiles, grid_extent(shape.heads, kMaxGridY), grid_extent(shape.batch, kMaxGridY)),
           dim3(kMmaThreads), kTileBytes<H>, ctx.stream, layout, rounded_dout, q, keys_of(shape, q),
           values_of(shape, q), first_key, lse, delta, dqkv);
    launch(attention_mma_dkv_kernel<H>,
           dim3(tiles, grid_extent(shape.kv_heads, kMaxGridY),
                grid_extent(shape.batch * kShares<H>, kMaxGridY)),
           dim3(kMmaThreads), kTileBytes<H>, ctx.stream, layout, shape.batch, rounded_dout, q,
           keys_of(shape, q), values_of(shape, q), first_key, lse, delta, keys_of(shape, dqkv),
           values_of(shape, dqkv));
  });
}

}  // namespace witan::ops::cuda
