// Attention's forward on the tensor cores. A block takes a tile of queries, kBlocks times 16 a
// warp, and walks over the tiles of keys that they see. Scores, probabilities and the weighted sums
// of values stay in registers; while scores are computed the tile's values are on their way, and
// while those are summed the next tile's keys.
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

// Keys of a tile. The widest heads leave registers for few scores.
template <class H>
constexpr int kKeys = H::kV <= 128 ? 64 : 32;

// 16-row blocks of queries a warp: with two, what is read of keys and values serves twice as many
// products; wide heads leave no registers for it.
template <class H>
constexpr int kBlocks = H::kQk <= 64 ? 2 : 1;
template <class H>
constexpr int kQueries = kMmaWarps* kMmaRows* kBlocks<H>;

template <class H>
constexpr std::size_t kSharedBytes = (kTileElements<kQueries<H>, H::kQk> +
                                      kTileElements<kKeys<H>, H::kQk> +
                                      kTileElements<kKeys<H>, H::kV>)*sizeof(std::uint16_t);

// The running softmax of a lane's two rows, in powers of 2; sums over the lane's own columns.
struct RunningRows {
  float largest[2];
  float sum[2];

  __device__ void reset() {
    largest[0] = largest[1] = -INFINITY;
    sum[0] = sum[1] = 0;
  }

  // scores (times log2 e) -> exponentials; `sums` is scaled to the new largest.
  template <int kScores, int kColumns>
  __device__ void absorb(MmaSums<kScores>& scores, MmaSums<kColumns>& sums) {
    WITAN_UNROLL
    for (int h = 0; h < 2; ++h) {
      float most = largest[h];
      WITAN_UNROLL
      for (int j = 0; j < kScores / 8; ++j) {
        most = fmaxf(most, fmaxf(scores[j][2 * h], scores[j][2 * h + 1]));
      }
      most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 2));
      // Nothing visible so far: any shift gives exponentials of 0.
      const float shift = most == -INFINITY ? 0.0f : most;
      const float shrink = exp2f(largest[h] - shift);
      float total = 0;
      WITAN_UNROLL
      for (int j = 0; j < kScores / 8; ++j) {
        WITAN_UNROLL
        for (int i = 2 * h; i < 2 * h + 2; ++i) {
          scores[j][i] = exp2f(scores[j][i] - shift);
          total += scores[j][i];
        }
      }
      largest[h] = most;
      sum[h] = sum[h] * shrink + total;
      WITAN_UNROLL
      for (int j = 0; j < kColumns / 8; ++j) {
        sums[j][2 * h] *= shrink;
        sums[j][2 * h + 1] *= shrink;
      }
    }
  }

  __device__ float whole_sum(int h) const {
    float total = sum[h] + __shfl_xor_sync(kFullWarp, sum[h], 1);
    return total + __shfl_xor_sync(kFullWarp, total, 2);
  }
};

// Scores times `factor`; minus infinity for columns outside of begin[h] .. last[h], what a lane's
// rows see of the tile.
template <int kScores>
__device__ void scale_and_mask(MmaSums<kScores>& scores, float factor, const int (&begin)[2],
                               const int (&last)[2]) {
  const bool all_visible = begin[0] <= 0 && begin[1] <= 0 && last[0] >= kScores - 1;
  WITAN_UNROLL
  for (int j = 0; j < kScores / 8; ++j) {
    WITAN_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int column = 8 * j + lane_column() + i % 2;
      const bool visible = all_visible || (column >= begin[i / 2] && column <= last[i / 2]);
      scores[j][i] = visible ? scores[j][i] * factor : -INFINITY;
    }
  }
}

// Block (tile of queries, head, sequence). q, k, v: rounded, as AttentionLayout says.
template <class H>
__global__ void attention_mma_forward_kernel(AttentionLayout layout, const std::uint16_t* q,
                                             const std::uint16_t* k, const std::uint16_t* v,
                                             const std::int32_t* first_key, float* out,
                                             float* lse) {
  std::uint16_t* q_tile = dynamic_shared<std::uint16_t>();
  std::uint16_t* k_tile = q_tile + kTileElements<kQueries<H>, H::kQk>;
  std::uint16_t* v_tile = k_tile + kTileElements<kKeys<H>, H::kQk>;
  const std::int64_t head = blockIdx.y;
  const std::int64_t sequence = blockIdx.z;
  // The last tiles see most keys: they begin first.
  const std::int64_t query = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * kQueries<H>;
  const std::int64_t left = layout.queries - query;
  const std::int64_t rows = left < kQueries<H> ? left : kQueries<H>;
  const std::int64_t token = sequence * layout.queries + query;
  const std::int64_t d = layout.head_dim;
  q += token * layout.q_row + head * d;
  k += sequence * layout.k_sequence + head / layout.group * d;
  v += sequence * layout.v_sequence + head / layout.group * layout.v_head;
  first_key += token;

  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * kMmaRows * kBlocks<H>;
  const float factor = static_cast<float>(layout.scale) * kLog2e;
  std::int64_t first[kBlocks<H>][2];  // key of a lane's rows
  RunningRows softmax[kBlocks<H>];
  MmaSums<H::kV> sums[kBlocks<H>] = {};
  WITAN_UNROLL
  for (int m = 0; m < kBlocks<H>; ++m) {
    softmax[m].reset();
    WITAN_UNROLL
    for (int h = 0; h < 2; ++h) {
      const std::int64_t r = warp_row + m * kMmaRows + lane_row(h);
      first[m][h] = r < rows ? first_key[r] : 0;
    }
  }

  const std::int64_t end = query + rows;  // of the keys
  std::int64_t key = lowest_first_key(first_key, 0, rows) / kKeys<H> * kKeys<H>;
  const auto copy_keys = [&](std::int64_t at) {
    copy_tile<kKeys<H>, H::kQk>(k + at * layout.k_row, layout.k_row, layout.queries - at, d,
                                k_tile);
    commit_copies();
  };
  copy_tile<kQueries<H>, H::kQk>(q, layout.q_row, rows, d, q_tile);
  copy_keys(key);
  for (; key < end; key += kKeys<H>) {
    wait_for_copies<0>();
    __syncthreads();  // the keys are there, the values before have been read
    copy_tile<kKeys<H>, H::kV>(v + key * layout.v_row, layout.v_row, layout.queries - key,
                               layout.v_dim, v_tile);
    commit_copies();
    const bool works =  // some of the warp's queries exist and see the first key
        warp_row < rows && key < query + warp_row + kMmaRows * kBlocks<H>;
    MmaSums<kKeys<H>> scores[kBlocks<H>];
    if (works) {
      multiply_rows<kBlocks<H>, kKeys<H>, H::kQk>(q_tile, warp_row, k_tile, scores);
      WITAN_UNROLL
      for (int m = 0; m < kBlocks<H>; ++m) {
        int begin[2];
        int last[2];
        WITAN_UNROLL
        for (int h = 0; h < 2; ++h) {
          begin[h] = static_cast<int>(first[m][h] - key);
          last[h] = static_cast<int>(query - key) + warp_row + m * kMmaRows + lane_row(h);
        }
        scale_and_mask<kKeys<H>>(scores[m], factor, begin, last);
        softmax[m].template absorb<kKeys<H>, H::kV>(scores[m], sums[m]);
      }
    }
    wait_for_copies<0>();
    __syncthreads();  // the values are there, the keys have been read
    if (key + kKeys<H> < end) copy_keys(key + kKeys<H>);
    if (works) add_weighted_rows<kBlocks<H>, kKeys<H>, H::kV, H::kV>(scores, v_tile, 0, sums);
  }

  WITAN_UNROLL
  for (int m = 0; m < kBlocks<H>; ++m) {
    float inverse[2];
    WITAN_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float sum = softmax[m].whole_sum(h);
      const std::int64_t r = warp_row + m * kMmaRows + lane_row(h);
      inverse[h] = 1.0f / sum;
      if (lane_column() == 0 && r < rows) {
        lse[(token + r) * layout.heads + head] = (softmax[m].largest[h] + log2f(sum)) * kLn2;
      }
    }
    store_sums<H::kV>(sums[m], inverse, warp_row + m * kMmaRows, 0, rows, layout.v_dim,
                      layout.heads * layout.v_dim,
                      out + (token * layout.heads + head) * layout.v_dim);
  }
}

}  // namespace

void attention_mma(const Context& ctx, const AttentionShape& shape, const float* qkv,
                   const std::int32_t* first_key, float* out, float* lse) {
  const AttentionLayout layout = joined_layout(shape);
  const std::int64_t elements = shape.batch * layout.q_sequence;
  auto* q = static_cast<std::uint16_t*>(
      witan::cuda::scratch(ctx, static_cast<std::size_t>(elements) * sizeof(std::uint16_t)));
  narrow_operand(ctx, qkv, elements, q);
  dispatch_heads(shape, [&](auto heads) {
    using H = decltype(heads);
    launch(attention_mma_forward_kernel<H>,
           dim3(grid_extent(blocks_of(shape.seq_len, kQueries<H>), kMaxGridX),
                grid_extent(shape.heads, kMaxGridY), grid_extent(shape.batch, kMaxGridY)),
           dim3(kMmaThreads), kSharedBytes<H>, ctx.stream, layout, q, keys_of(shape, q),
           values_of(shape, q), first_key, out, lse);
  });
}

}  // namespace witan::ops::cuda
