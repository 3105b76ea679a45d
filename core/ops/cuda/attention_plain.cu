// Attention on CUDA by ordinary arithmetic. A block of 16 x 16 threads works on a tile of kTile
// queries and one of kTile keys at a time: thread (ty, tx) holds the scores of queries ty + 16 i
// and keys tx + 16 j. Operands pass through shared memory in slices, so that any head_dim fits;
// results are kept in registers, at most kColumns columns a block: where a head is wider, blocks
// share its columns and each computes the scores again. Every sum has one fixed order: queries and
// keys ascending, the heads of a group ascending.
#include "core/ops/cuda/attention_plain.h"

#include <cstdint>
#include <type_traits>

#include "core/base/cuda/launch.h"
#include "core/ops/cuda/bfloat16.h"
#include "core/ops/cuda/block_sum.h"
#include "core/ops/cuda/grid.h"

namespace witan::ops::cuda {
namespace {

constexpr int kSide = 16;  // threads along either side of a tile
constexpr int kThreads = kSide * kSide;
constexpr int kSliceDepth = 32;  // elements of the heads that are multiplied at a time
constexpr int kSliceRows = 16;   // rows that are summed at a time
constexpr int kColumnsEach = 8;  // columns of a result that a thread holds
constexpr int kColumns = kSide * kColumnsEach;

template <class T>
constexpr int kRowsEach = std::is_same_v<T, float> ? 4 : 2;  // rows of a tile that a thread holds
template <class T>
constexpr int kTile = kSide* kRowsEach<T>;
template <class T>
constexpr int kSliceElements = 2 * kTile<T>*(kSliceDepth + 1) > kSliceRows* kColumns
                                   ? 2 * kTile<T>*(kSliceDepth + 1)
                                   : kSliceRows* kColumns;

template <class T>
using Scores = T[kRowsEach<T>][kRowsEach<T>];
template <class T>
using Columns = T[kRowsEach<T>][kColumnsEach];

// `count` rows of `dim` elements, `row` elements apart; those beyond count or dim read as 0.
template <class T>
struct Rows {
  const T* data;
  std::int64_t row, count, dim;
  bool round;  // to bfloat16

  __device__ T at(std::int64_t r, std::int64_t c) const {
    if (r >= count || c >= dim) return 0;
    const T value = data[r * row + c];
    if constexpr (std::is_same_v<T, float>) {
      if (round) return round_to_bfloat16(value);
    }
    return value;
  }
};

// Rows of a tile of queries: the first key head's query heads of the first token, then those of the
// next token, and so on, so that one pass over the keys serves them all. Without kPacked a row is a
// token's one head.
template <bool kPacked>
struct QueryRows {
  int begin;  // the tile's first row
  int heads;  // of a token

  __device__ int token(int r) const { return kPacked ? (begin + r) / heads : begin + r; }
  __device__ int head(int r) const { return kPacked ? (begin + r) % heads : 0; }
};

// What multiply_rows() reads of them: `count` rows of `dim` elements, tokens `row` elements apart.
template <class T, bool kPacked>
struct PackedRows {
  QueryRows<kPacked> rows;
  const T* data;
  std::int64_t row, count, dim;
  bool round;

  __device__ T at(int r, std::int64_t c) const {
    if (r >= count) return 0;
    return Rows<T>{data + rows.token(r) * row + rows.head(r) * dim, row, 1, dim, round}.at(0, c);
  }
};

__device__ inline int side_y() { return static_cast<int>(threadIdx.x) / kSide; }
__device__ inline int side_x() { return static_cast<int>(threadIdx.x) % kSide; }

// scores[i][j] = row ty + 16 i of a times row tx + 16 j of b.
template <class A, class T>
__device__ void multiply_rows(const A& a, const Rows<T>& b, T* slice, Scores<T>& scores) {
  T* slice_a = slice;
  T* slice_b = slice + kTile<T> * (kSliceDepth + 1);
  WITAN_UNROLL
  for (int i = 0; i < kRowsEach<T>; ++i) {
    WITAN_UNROLL
    for (int j = 0; j < kRowsEach<T>; ++j) scores[i][j] = 0;
  }
  for (std::int64_t begin = 0; begin < a.dim; begin += kSliceDepth) {
    __syncthreads();  // the slice before has been read
    for (int at = static_cast<int>(threadIdx.x); at < kTile<T> * kSliceDepth; at += kThreads) {
      const int r = at / kSliceDepth;
      const int c = at % kSliceDepth;
      slice_a[r * (kSliceDepth + 1) + c] = a.at(r, begin + c);
      slice_b[r * (kSliceDepth + 1) + c] = b.at(r, begin + c);
    }
    __syncthreads();
    for (int c = 0; c < kSliceDepth; ++c) {
      T from_b[kRowsEach<T>];
      WITAN_UNROLL
      for (int j = 0; j < kRowsEach<T>; ++j) {
        from_b[j] = slice_b[(side_x() + kSide * j) * (kSliceDepth + 1) + c];
      }
      WITAN_UNROLL
      for (int i = 0; i < kRowsEach<T>; ++i) {
        const T from_a = slice_a[(side_y() + kSide * i) * (kSliceDepth + 1) + c];
        WITAN_UNROLL
        for (int j = 0; j < kRowsEach<T>; ++j) scores[i][j] += from_a * from_b[j];
      }
    }
  }
}

// sums[i][j] += weights[ty + 16 i, r] b[r, first_column + tx + 16 j] over the rows r of b. weights
// [kTile, kTile + 1] is shared memory that this makes visible to all threads.
template <class T>
__device__ void add_weighted_rows(const T* weights, const Rows<T>& b, std::int64_t first_column,
                                  T* slice, Columns<T>& sums) {
  const int rows = b.count < kTile<T> ? static_cast<int>(b.count) : kTile<T>;
  for (int begin = 0; begin < rows; begin += kSliceRows) {
    __syncthreads();  // the slice before has been read
    for (int at = static_cast<int>(threadIdx.x); at < kSliceRows * kColumns; at += kThreads) {
      slice[at] = b.at(begin + at / kColumns, first_column + at % kColumns);
    }
    __syncthreads();
    const int filled = rows - begin < kSliceRows ? rows - begin : kSliceRows;
    for (int r = 0; r < filled; ++r) {
      T from_b[kColumnsEach];
      WITAN_UNROLL
      for (int j = 0; j < kColumnsEach; ++j) from_b[j] = slice[r * kColumns + side_x() + kSide * j];
      WITAN_UNROLL
      for (int i = 0; i < kRowsEach<T>; ++i) {
        const T weight = weights[(side_y() + kSide * i) * (kTile<T> + 1) + begin + r];
        WITAN_UNROLL
        for (int j = 0; j < kColumnsEach; ++j) sums[i][j] += weight * from_b[j];
      }
    }
  }
}

// weights[ty + 16 i, tx + 16 j] = scores[i][j].
template <class T>
__device__ void store_weights(const Scores<T>& scores, T* weights) {
  WITAN_UNROLL
  for (int i = 0; i < kRowsEach<T>; ++i) {
    WITAN_UNROLL
    for (int j = 0; j < kRowsEach<T>; ++j) {
      weights[(side_y() + kSide * i) * (kTile<T> + 1) + side_x() + kSide * j] = scores[i][j];
    }
  }
}

// row_at(r)[c] = factor sums, for the rows below count and the columns below dim.
template <class T, class RowAt>
__device__ void store_columns(const Columns<T>& sums, T factor, std::int64_t first_column,
                              std::int64_t count, std::int64_t dim, const RowAt& row_at) {
  WITAN_UNROLL
  for (int i = 0; i < kRowsEach<T>; ++i) {
    const int r = side_y() + kSide * i;
    WITAN_UNROLL
    for (int j = 0; j < kColumnsEach; ++j) {
      const std::int64_t c = first_column + side_x() + kSide * j;
      if (r < count && c < dim) row_at(r)[c] = sums[i][j] * factor;
    }
  }
}

// Over the 16 threads that hold one row of a tile.
template <class T>
__device__ T max_of_row(T value) {
  WITAN_UNROLL
  for (int offset = kSide / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kFullWarp, value, offset);
    value = other > value ? other : value;
  }
  return value;
}
template <class T>
__device__ T sum_of_row(T value) {
  WITAN_UNROLL
  for (int offset = kSide / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, offset);
  }
  return value;
}

// The running softmax of the rows that a thread shares: exponentials are of score - largest.
template <class T>
struct RunningSoftmax {
  T largest[kRowsEach<T>];
  T sum[kRowsEach<T>];

  __device__ RunningSoftmax() {
    WITAN_UNROLL
    for (int i = 0; i < kRowsEach<T>; ++i) {
      largest[i] = -static_cast<T>(INFINITY);
      sum[i] = 0;
    }
  }

  // scores -> exponentials; what has been summed so far is scaled to the new largest.
  __device__ void absorb(Scores<T>& scores, Columns<T>& sums) {
    WITAN_UNROLL
    for (int i = 0; i < kRowsEach<T>; ++i) {
      T most = scores[i][0];
      WITAN_UNROLL
      for (int j = 1; j < kRowsEach<T>; ++j) most = scores[i][j] > most ? scores[i][j] : most;
      most = max_of_row(most);
      most = most > largest[i] ? most : largest[i];
      // Nothing visible so far: any shift gives exponentials of 0.
      const T shift = most == -static_cast<T>(INFINITY) ? T{0} : most;
      const T shrink = exp(largest[i] - shift);
      T total = 0;
      WITAN_UNROLL
      for (int j = 0; j < kRowsEach<T>; ++j) {
        scores[i][j] = exp(scores[i][j] - shift);
        total += scores[i][j];
      }
      largest[i] = most;
      sum[i] = sum[i] * shrink + sum_of_row(total);
      WITAN_UNROLL
      for (int j = 0; j < kColumnsEach; ++j) sums[i][j] *= shrink;
    }
  }
};

// Block (tile of queries, head or group of heads, sequence and block of columns of out). `window`:
// of the packed queries, which have no first_key; 0: none.
template <class T, bool kPacked>
__global__ void attention_forward_kernel(AttentionLayout layout, bool round, std::int64_t batch,
                                         const T* q, const T* k, const T* v,
                                         const std::int32_t* first_key, const std::int32_t* lengths,
                                         std::int64_t window, T* out, T* lse) {
  WITAN_SHARED(T[kSliceElements<T>], slice);
  WITAN_SHARED(T[kTile<T> * (kTile<T> + 1)], weights);
  const int packed = kPacked ? static_cast<int>(layout.group) : 1;
  const std::int64_t head = static_cast<std::int64_t>(blockIdx.y) * packed;  // the first one
  const std::int64_t sequence = blockIdx.z % batch;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.z) / batch * kColumns;
  // The last tiles see most keys: they begin first.
  const int begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile<T>;
  const QueryRows<kPacked> tile = {begin, packed};
  const int left = static_cast<int>(layout.queries) * packed - begin;
  const int rows = left < kTile<T> ? left : kTile<T>;
  const std::int64_t keys = lengths == nullptr ? layout.queries : lengths[sequence];
  const std::int64_t offset = keys - layout.queries;
  const std::int64_t token = sequence * layout.queries;  // the sequence's first
  const std::int32_t* first = first_key == nullptr ? nullptr : first_key + token;
  const std::int64_t d = layout.head_dim;
  const std::int64_t kv_head = head / layout.group;
  const PackedRows<T, kPacked> queries = {
      tile, q + sequence * layout.q_sequence + head * d, layout.q_row, rows, d, round};
  k += sequence * layout.k_sequence + kv_head * d;
  v += sequence * layout.v_sequence + kv_head * layout.v_head;

  // Keys that this thread's queries see: from[i] .. position[i].
  std::int64_t from[kRowsEach<T>];
  std::int64_t position[kRowsEach<T>];
  WITAN_UNROLL
  for (int i = 0; i < kRowsEach<T>; ++i) {
    const int r = side_y() + kSide * i;
    position[i] = r < rows ? offset + tile.token(r) : -1;
    from[i] = r < rows && first != nullptr ? first[tile.token(r)] : 0;
    if (kPacked && window > 0) from[i] = position[i] - window + 1;
  }

  RunningSoftmax<T> softmax;
  Columns<T> sums = {};
  const int last = tile.token(rows - 1);
  std::int64_t lowest = lowest_first_key(first, tile.token(0), last + 1);
  if (kPacked && window > 0) {
    const std::int64_t begin_of_window = offset + tile.token(0) - window + 1;
    lowest = begin_of_window > 0 ? begin_of_window : 0;
  }
  for (std::int64_t key = lowest / kTile<T> * kTile<T>; key <= offset + last; key += kTile<T>) {
    Scores<T> scores;
    multiply_rows(queries, {k + key * layout.k_row, layout.k_row, keys - key, d, round}, slice,
                  scores);
    WITAN_UNROLL
    for (int i = 0; i < kRowsEach<T>; ++i) {
      WITAN_UNROLL
      for (int j = 0; j < kRowsEach<T>; ++j) {
        const std::int64_t at = key + side_x() + kSide * j;
        scores[i][j] = at >= from[i] && at <= position[i]
                           ? scores[i][j] * static_cast<T>(layout.scale)
                           : -static_cast<T>(INFINITY);
      }
    }
    softmax.absorb(scores, sums);
    store_weights(scores, weights);
    add_weighted_rows(weights,
                      {v + key * layout.v_row, layout.v_row, keys - key, layout.v_dim, round},
                      first_column, slice, sums);
  }

  const auto result_row = [&](int r) {
    return (token + tile.token(r)) * layout.heads + head + tile.head(r);
  };
  WITAN_UNROLL
  for (int i = 0; i < kRowsEach<T>; ++i) {
    const int r = side_y() + kSide * i;
    WITAN_UNROLL
    for (int j = 0; j < kColumnsEach; ++j) sums[i][j] /= softmax.sum[i];
    if (lse != nullptr && first_column == 0 && side_x() == 0 && r < rows) {
      lse[result_row(r)] = softmax.largest[i] + log(softmax.sum[i]);
    }
  }
  store_columns(sums, T{1}, first_column, rows, layout.v_dim,
                [&](int r) { return out + result_row(r) * layout.v_dim; });
}

// One warp a row: moves dout and out in once.
template <class T>
__global__ void attention_delta_kernel(const T* dout, const T* out, std::int64_t rows,
                                       std::int64_t v_dim, bool round, T* delta) {
  const std::int64_t warps = blockDim.x / kWarpSize;
  const std::int64_t row = blockIdx.x * warps + threadIdx.x / kWarpSize;
  if (row >= rows) return;
  const Rows<T> gradient = {dout + row * v_dim, v_dim, 1, v_dim, round};
  double sum = 0.0;
  for (std::int64_t c = threadIdx.x % kWarpSize; c < v_dim; c += kWarpSize) {
    sum += static_cast<double>(gradient.at(0, c)) * static_cast<double>(out[row * v_dim + c]);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarpSize == 0) delta[row] = static_cast<T>(sum);
}

// Of one query head and a tile of its queries, what the backward reads.
template <class T>
struct BackwardRows {
  Rows<T> q, dout;
  const T* lse;  // heads apart, as delta
  const T* delta;
  const std::int32_t* first_key;
  std::int64_t query, rows;  // the first one, and how many

  __device__ BackwardRows(const AttentionLayout& layout, bool round, std::int64_t sequence,
                          std::int64_t head, std::int64_t from, const T* all_dout, const T* all_q,
                          const std::int32_t* all_first_key, const T* all_lse, const T* all_delta)
      : query(from) {
    const std::int64_t left = layout.queries - query;
    rows = left < kTile<T> ? left : kTile<T>;
    const std::int64_t token = sequence * layout.queries + query;
    q = {all_q + token * layout.q_row + head * layout.head_dim, layout.q_row, rows, layout.head_dim,
         round};
    dout = {all_dout + (token * layout.heads + head) * layout.v_dim, layout.heads * layout.v_dim,
            rows, layout.v_dim, round};
    lse = all_lse + token * layout.heads + head;
    delta = all_delta + token * layout.heads + head;
    first_key = all_first_key + token;
  }

  // The probability of query r's key at `position`, from their score.
  __device__ T probability(const AttentionLayout& layout, std::int64_t r, std::int64_t position,
                           T score) const {
    if (r >= rows || position > query + r || position < first_key[r]) return 0;
    return exp(score * static_cast<T>(layout.scale) - lse[r * layout.heads]);
  }
};

// dq = scale dS k with dS = P (dP - delta), dP = dout v^T. Block (tile of queries, head, sequence
// and block of columns).
template <class T>
__global__ void attention_backward_dq_kernel(AttentionLayout layout, bool round, std::int64_t batch,
                                             const T* dout, const T* q, const T* k, const T* v,
                                             const std::int32_t* first_key, const T* lse,
                                             const T* delta, T* dq) {
  WITAN_SHARED(T[kSliceElements<T>], slice);
  WITAN_SHARED(T[kTile<T> * (kTile<T> + 1)], weights);
  const std::int64_t head = blockIdx.y;
  const std::int64_t sequence = blockIdx.z % batch;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.z) / batch * kColumns;
  const std::int64_t query = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * kTile<T>;
  const BackwardRows<T> own(layout, round, sequence, head, query, dout, q, first_key, lse, delta);
  k += sequence * layout.k_sequence + head / layout.group * layout.head_dim;
  v += sequence * layout.v_sequence + head / layout.group * layout.v_head;

  Columns<T> sums = {};
  const std::int64_t last = query + own.rows - 1;
  for (std::int64_t key = lowest_first_key(own.first_key, 0, own.rows) / kTile<T> * kTile<T>;
       key <= last; key += kTile<T>) {
    const std::int64_t count = layout.queries - key;
    const Rows<T> keys = {k + key * layout.k_row, layout.k_row, count, layout.head_dim, round};
    Scores<T> scores;
    Scores<T> gradient;
    multiply_rows(own.q, keys, slice, scores);
    multiply_rows(own.dout, {v + key * layout.v_row, layout.v_row, count, layout.v_dim, round},
                  slice, gradient);
    WITAN_UNROLL
    for (int i = 0; i < kRowsEach<T>; ++i) {
      const std::int64_t r = side_y() + kSide * i;
      const T shift = r < own.rows ? own.delta[r * layout.heads] : T{0};
      WITAN_UNROLL
      for (int j = 0; j < kRowsEach<T>; ++j) {
        const T p = own.probability(layout, r, key + side_x() + kSide * j, scores[i][j]);
        scores[i][j] = p * (gradient[i][j] - shift);
      }
    }
    store_weights(scores, weights);
    add_weighted_rows(weights, keys, first_column, slice, sums);
  }
  store_columns(sums, static_cast<T>(layout.scale), first_column, own.rows, layout.head_dim,
                [&](int r) {
                  return dq + sequence * layout.q_sequence + (query + r) * layout.q_row +
                         head * layout.head_dim;
                });
}

// dv = P^T dout and dk = scale dS^T q, summed over the queries of every head of the group in turn.
// Block (tile of keys, key head, sequence and block of columns); here keys are the tile's rows.
template <class T>
__global__ void attention_backward_dkv_kernel(AttentionLayout layout, bool round,
                                              std::int64_t batch, const T* dout, const T* q,
                                              const T* k, const T* v, const std::int32_t* first_key,
                                              const T* lse, const T* delta, T* dk, T* dv) {
  WITAN_SHARED(T[kSliceElements<T>], slice);
  WITAN_SHARED(T[kTile<T> * (kTile<T> + 1)], weights);
  const std::int64_t kv_head = blockIdx.y;
  const std::int64_t sequence = blockIdx.z % batch;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.z) / batch * kColumns;
  const std::int64_t key = static_cast<std::int64_t>(blockIdx.x) * kTile<T>;
  const std::int64_t count = layout.queries - key < kTile<T> ? layout.queries - key : kTile<T>;
  const std::int64_t k_at =
      sequence * layout.k_sequence + key * layout.k_row + kv_head * layout.head_dim;
  const std::int64_t v_at =
      sequence * layout.v_sequence + key * layout.v_row + kv_head * layout.v_head;
  const Rows<T> keys = {k + k_at, layout.k_row, count, layout.head_dim, round};
  const Rows<T> values = {v + v_at, layout.v_row, count, layout.v_dim, round};

  Columns<T> dk_sums = {};
  Columns<T> dv_sums = {};
  // Behind these, all queries are of other documents, or the tile has left their windows.
  const std::int64_t end =
      end_of_queries(first_key + sequence * layout.queries, key, key + count, layout.queries);
  for (std::int64_t head = kv_head * layout.group; head < (kv_head + 1) * layout.group; ++head) {
    for (std::int64_t query = key; query < end; query += kTile<T>) {
      const BackwardRows<T> seen(layout, round, sequence, head, query, dout, q, first_key, lse,
                                 delta);
      Scores<T> scores;
      Scores<T> gradient;
      multiply_rows(keys, seen.q, slice, scores);
      multiply_rows(values, seen.dout, slice, gradient);
      WITAN_UNROLL
      for (int j = 0; j < kRowsEach<T>; ++j) {
        const std::int64_t r = side_x() + kSide * j;
        const T shift = r < seen.rows ? seen.delta[r * layout.heads] : T{0};
        WITAN_UNROLL
        for (int i = 0; i < kRowsEach<T>; ++i) {
          scores[i][j] = seen.probability(layout, r, key + side_y() + kSide * i, scores[i][j]);
          gradient[i][j] = scores[i][j] * (gradient[i][j] - shift);
        }
      }
      store_weights(scores, weights);
      add_weighted_rows(weights, seen.dout, first_column, slice, dv_sums);
      __syncthreads();  // the probabilities have been read
      store_weights(gradient, weights);
      add_weighted_rows(weights, seen.q, first_column, slice, dk_sums);
    }
  }
  store_columns(dk_sums, static_cast<T>(layout.scale), first_column, count, layout.head_dim,
                [&](int r) { return dk + k_at + r * layout.k_row; });
  store_columns(dv_sums, T{1}, first_column, count, layout.v_dim,
                [&](int r) { return dv + v_at + r * layout.v_row; });
}

template <class T>
dim3 tile_grid(std::int64_t rows, std::int64_t batch, std::int64_t heads, std::int64_t columns) {
  return dim3(grid_extent(blocks_of(rows, kTile<T>), kMaxGridX), grid_extent(heads, kMaxGridY),
              grid_extent(batch * blocks_of(columns, kColumns), kMaxGridY));
}

}  // namespace

template <class T>
void attention_plain(const Context& ctx, const AttentionLayout& layout, std::int64_t batch,
                     const T* q, const T* k, const T* v, const std::int32_t* first_key, T* out,
                     T* lse) {
  const std::int32_t* no_lengths = nullptr;
  launch(attention_forward_kernel<T, false>,
         tile_grid<T>(layout.queries, batch, layout.heads, layout.v_dim), dim3(kThreads), 0,
         ctx.stream, layout, ctx.products == Products::kBfloat16, batch, q, k, v, first_key,
         no_lengths, std::int64_t{0}, out, lse);
}

template <class T>
void attention_cached_plain(const Context& ctx, const AttentionLayout& layout, std::int64_t batch,
                            const T* q, const T* k, const T* v, const std::int32_t* lengths,
                            std::int64_t window, T* out) {
  const std::int32_t* no_first_key = nullptr;
  T* no_lse = nullptr;
  launch(
      attention_forward_kernel<T, true>,
      tile_grid<T>(layout.queries * layout.group, batch, layout.heads / layout.group, layout.v_dim),
      dim3(kThreads), 0, ctx.stream, layout, ctx.products == Products::kBfloat16, batch, q, k, v,
      no_first_key, lengths, window, out, no_lse);
}

template <class T>
void attention_delta(const Context& ctx, const T* dout, const T* out, std::int64_t rows,
                     std::int64_t v_dim, T* delta) {
  launch(attention_delta_kernel<T>,
         dim3(grid_extent(blocks_of(rows, kThreads / kWarpSize), kMaxGridX)), dim3(kThreads), 0,
         ctx.stream, dout, out, rows, v_dim, ctx.products == Products::kBfloat16, delta);
}

template <class T>
void attention_backward_plain(const Context& ctx, const AttentionLayout& layout, std::int64_t batch,
                              const T* dout, const T* q, const T* k, const T* v,
                              const std::int32_t* first_key, const T* lse, const T* delta, T* dq,
                              T* dk, T* dv) {
  const bool round = ctx.products == Products::kBfloat16;
  launch(attention_backward_dq_kernel<T>,
         tile_grid<T>(layout.queries, batch, layout.heads, layout.head_dim), dim3(kThreads), 0,
         ctx.stream, layout, round, batch, dout, q, k, v, first_key, lse, delta, dq);
  launch(attention_backward_dkv_kernel<T>,
         tile_grid<T>(layout.queries, batch, layout.heads / layout.group,
                      layout.head_dim > layout.v_dim ? layout.head_dim : layout.v_dim),
         dim3(kThreads), 0, ctx.stream, layout, round, batch, dout, q, k, v, first_key, lse, delta,
         dk, dv);
}

#define WITAN_INSTANTIATE(T)                                                                    \
  template void attention_plain(const Context&, const AttentionLayout&, std::int64_t, const T*, \
                                const T*, const T*, const std::int32_t*, T*, T*);               \
  template void attention_cached_plain(const Context&, const AttentionLayout&, std::int64_t,    \
                                       const T*, const T*, const T*, const std::int32_t*,       \
                                       std::int64_t, T*);                                       \
  template void attention_delta(const Context&, const T*, const T*, std::int64_t, std::int64_t, \
                                T*);                                                            \
  template void attention_backward_plain(const Context&, const AttentionLayout&, std::int64_t,  \
                                         const T*, const T*, const T*, const T*,                \
                                         const std::int32_t*, const T*, const T*, T*, T*, T*);
WITAN_INSTANTIATE(float)
WITAN_INSTANTIATE(double)

}  // namespace witan::ops::cuda
