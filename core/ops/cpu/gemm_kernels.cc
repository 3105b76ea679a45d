// The blocking of Goto and van de Geijn (2008): a block of A and a block of B are copied into the
// order in which the register tile reads them; the tile's sums stay in registers over a whole block
// of k. The copy of B's panel is made when its first rows of C are computed, so that with few rows
// (a small expert, decoding) it is used from the L1 cache and never travels.
#include "core/ops/cpu/gemm_kernels.h"

#include "core/ops/cpu/vector.h"

namespace witan::cpu::WITAN_ISA {
namespace {

constexpr int kVectors = 2;  // per row of a register tile

template <class T>
constexpr int kTileColumns = kVectors* kLanes<T>;

// As many rows as leave two registers for B and one for an element of A.
#if defined(__AVX512F__)
constexpr int kTileRows = 14;
#elif defined(__AVX2__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 4;
#endif

// The block of k: the same at every level and for both types, because it decides the order of sums.
constexpr std::int64_t kBlockK = 384;
constexpr std::int64_t kBlockKStep = 16;
constexpr std::int64_t kBlockRows = 168;             // of A: with kBlockK, a part of the L2 cache
constexpr std::int64_t kBlockColumns = 1024;         // of B: the rest of it
constexpr std::int64_t kSlack = 64 / sizeof(float);  // pack_rows writes up to a vector too far

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// c [kRows, columns] (+)= sums.
template <class T, int kRows, int kCount>
inline void store_tile(const Vector<T> (&sums)[kRows][kCount], T* c, std::int64_t ldc,
                       std::int64_t columns, bool accumulate) {
  constexpr int kWidth = kCount * kLanes<T>;
  if (columns < kWidth) {
    T edge[kRows][kWidth];
    std::memcpy(edge, sums, sizeof(edge));
    for (int r = 0; r < kRows; ++r) {
      for (std::int64_t j = 0; j < columns; ++j) {
        c[r * ldc + j] = accumulate ? c[r * ldc + j] + edge[r][j] : edge[r][j];
      }
    }
    return;
  }
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kCount; ++v) {
      T* to = c + r * ldc + v * kLanes<T>;
      store<T>(to, accumulate ? load(to) + sums[r][v] : sums[r][v]);
    }
  }
}

// Where a tile finds its columns of B: in the packed panel; or in B itself, [k, ldb], whence it
// fills the panel for the tiles after it.
enum class Panel { kPacked, kCopied };

// c [kRows, columns] (+)= a b over k, a packed as [k, kRows], the panel as [k, kCount vectors].
template <class T, int kRows, int kCount, Panel kPanel>
void tile(std::int64_t k, const T* a, const T* b, std::int64_t ldb, T* panel, T* c,
          std::int64_t ldc, std::int64_t columns, bool accumulate) {
  constexpr int kWidth = kCount * kLanes<T>;
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kWidth; j += 64 / static_cast<int>(sizeof(T))) {
      __builtin_prefetch(c + r * ldc + j, 1);
    }
  }
  Vector<T> sums[kRows][kCount] = {};
  for (std::int64_t p = 0; p < k; ++p) {
    Vector<T> row[kCount];
#pragma GCC unroll 2
    for (int v = 0; v < kCount; ++v) {
      if constexpr (kPanel == Panel::kCopied) {
        row[v] = load(b + v * kLanes<T>);
        __builtin_prefetch(b + kWidth + v * kLanes<T>);  // the next panel
        store<T>(panel + v * kLanes<T>, row[v]);
      } else {
        row[v] = load(panel + v * kLanes<T>);
      }
    }
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kCount; ++v) sums[r][v] += a[r] * row[v];
    }
    a += kRows;
    if constexpr (kPanel == Panel::kCopied) b += ldb;
    panel += kWidth;
  }
  store_tile<T, kRows, kCount>(sums, c, ldc, columns, accumulate);
}

// to [k, kRows] = rows of a that lie transposed in memory, [k, lda].
template <class T, int kRows>
void pack_transposed_rows(const T* a, std::int64_t lda, std::int64_t k, T* to) {
  for (std::int64_t p = 0; p < k; ++p) std::memcpy(to + p * kRows, a + p * lda, kRows * sizeof(T));
}

// to [k, stride], columns 0 .. rows - 1 = the transpose of from [rows, ld]; the columns after them,
// up to whole vectors, are written too and belong to the slots filled next.
template <class T>
void pack_rows(const T* from, std::int64_t ld, std::int64_t rows, std::int64_t k,
               std::int64_t stride, T* to) {
  constexpr std::int64_t n = kLanes<T>;
  const std::int64_t whole = k / n * n;
  // The last group first: what it writes too far lies in the next line of the first group.
  for (std::int64_t group = ceil_div(rows, n) - 1; group >= 0; --group) {
    const T* first = from + group * n * ld;
    const std::int64_t count = smaller(n, rows - group * n);
    // Lanes without a row of their own repeat the last one: nobody reads them.
    const T* source[n];
    for (std::int64_t r = 0; r < n; ++r) source[r] = first + smaller(r, count - 1) * ld;
    for (std::int64_t p = 0; p < whole; p += n) {
      Vector<T> square[n];
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) square[r] = load(source[r] + p);
      transpose<T>(square);
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) store<T>(to + (p + r) * stride + group * n, square[r]);
    }
  }
  for (std::int64_t p = whole; p < k; ++p) {
    for (std::int64_t r = 0; r < rows; ++r) to[p * stride + r] = from[r * ld + p];
  }
}

template <class T>
using TileFunction = void (*)(std::int64_t, const T*, const T*, std::int64_t, T*, T*, std::int64_t,
                              std::int64_t, bool);
template <class T>
using PackFunction = void (*)(const T*, std::int64_t, std::int64_t, T*);

// The functions for 1 .. kTileRows rows.
template <class T>
struct Tiles {
  TileFunction<T> narrow[kTileRows];  // at most one vector of columns
  TileFunction<T> wide[kTileRows];
  TileFunction<T> copying[kTileRows];  // wide, filling the panel
  PackFunction<T> pack_transposed[kTileRows];
};
template <class T, int... kIndex>
constexpr Tiles<T> make_tiles(std::integer_sequence<int, kIndex...>) {
  return {{tile<T, kIndex + 1, 1, Panel::kPacked>...},
          {tile<T, kIndex + 1, kVectors, Panel::kPacked>...},
          {tile<T, kIndex + 1, kVectors, Panel::kCopied>...},
          {pack_transposed_rows<T, kIndex + 1>...}};
}
template <class T>
constexpr Tiles<T> kTiles = make_tiles<T>(std::make_integer_sequence<int, kTileRows>{});

// Rows of a block of A, cut into register tiles of nearly equal height.
struct RowTiles {
  std::int64_t rows;
  std::int64_t count;
  std::int64_t begin(std::int64_t tile) const { return rows * tile / count; }
};

// A [rows, k] from row `row` and term `term`: tile after tile, each as [k, rows of the tile]. Where
// A lies transposed, a few terms of all tiles at a time: their lines are read whole, once.
template <class T>
void pack_a(const GemmTask<T>& task, std::int64_t row, const RowTiles& tiles, std::int64_t term,
            std::int64_t k, T* to) {
  const std::int64_t step = task.a_transposed ? kBlockKStep : k;
  for (std::int64_t p = 0; p < k; p += step) {
    const std::int64_t count = smaller(step, k - p);
    for (std::int64_t t = 0; t < tiles.count; ++t) {
      const std::int64_t begin = tiles.begin(t);
      const std::int64_t rows = tiles.begin(t + 1) - begin;
      T* tile_to = to + begin * k + p * rows;
      if (task.a_transposed) {
        kTiles<T>.pack_transposed[rows - 1](task.a + (term + p) * task.lda + row + begin, task.lda,
                                            count, tile_to);
      } else {
        pack_rows(task.a + (row + begin) * task.lda + term, task.lda, rows, k, rows, tile_to);
      }
    }
  }
}

// Columns [column, column + columns) of B as [k, width], filled up with zeros.
template <class T>
void pack_b(const GemmTask<T>& task, std::int64_t column, std::int64_t columns, std::int64_t width,
            std::int64_t term, std::int64_t k, T* to) {
  if (task.b_transposed) {
    const T* from = task.b + column * task.ldb + term;
    if (columns < width) std::memset(to, 0, static_cast<std::size_t>(k * width) * sizeof(T));
    pack_rows(from, task.ldb, columns, k, width, to);
    return;
  }
  const T* from = task.b + term * task.ldb + column;
  for (std::int64_t p = 0; p < k; ++p) {
    for (std::int64_t j = 0; j < width; ++j) {
      to[p * width + j] = j < columns ? from[p * task.ldb + j] : T{0};
    }
  }
}

// All row tiles of a block against one panel of B, which is filled first if it is new.
template <class T>
void run_panel(const GemmTask<T>& task, const RowTiles& tiles, std::int64_t row,
               std::int64_t column, std::int64_t columns, std::int64_t term, std::int64_t k,
               const T* packed_a, T* panel, bool fill) {
  const bool narrow = columns <= kLanes<T>;
  const bool copy = fill && !task.b_transposed && columns == kTileColumns<T>;
  if (fill && !copy) {
    pack_b(task, column, columns, narrow ? kLanes<T> : kTileColumns<T>, term, k, panel);
  }
  const bool accumulate = task.accumulate || term > 0;
  const T* b = task.b_transposed ? nullptr : task.b + term * task.ldb + column;
  for (std::int64_t t = 0; t < tiles.count; ++t) {
    const std::int64_t begin = tiles.begin(t);
    const std::int64_t index = tiles.begin(t + 1) - begin - 1;
    const TileFunction<T> run = copy && t == 0 ? kTiles<T>.copying[index]
                                : narrow       ? kTiles<T>.narrow[index]
                                               : kTiles<T>.wide[index];
    run(k, packed_a + begin * k, b, task.ldb, panel, task.c + (row + begin) * task.ldc + column,
        task.ldc, columns, accumulate);
  }
}

// c [kRows, columns] (+)= a b over k for a few rows, b transposed and at most one vector of columns
// wide: its squares are transposed in registers and used once, without a detour through memory.
template <class T, int kRows>
void skinny_tile(std::int64_t k, const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T* c,
                 std::int64_t ldc, std::int64_t columns, bool accumulate) {
  constexpr std::int64_t n = kLanes<T>;
  const T* source[n];
  for (std::int64_t j = 0; j < n; ++j) source[j] = b + smaller(j, columns - 1) * ldb;
  Vector<T> sums[kRows][1] = {};
  std::int64_t p = 0;
  for (; p + n <= k; p += n) {
    Vector<T> square[n];
#pragma GCC unroll 16
    for (int j = 0; j < n; ++j) square[j] = load(source[j] + p);
    transpose<T>(square);
#pragma GCC unroll 16
    for (int l = 0; l < n; ++l) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sums[r][0] += a[r * lda + p + l] * square[l];
    }
  }
  for (; p < k; ++p) {
    T line[n];
    for (int j = 0; j < n; ++j) line[j] = source[j][p];
    for (int r = 0; r < kRows; ++r) sums[r][0] += a[r * lda + p] * load(line);
  }
  store_tile<T, kRows, 1>(sums, c, ldc, columns, accumulate);
}

constexpr std::int64_t kSkinnyRows = 4;

// The product of up to kSkinnyRows rows with a transposed B, without packing: decoding.
template <class T>
void skinny(const GemmTask<T>& task, std::int64_t block_k) {
  constexpr decltype(&skinny_tile<T, 1>) kRun[] = {skinny_tile<T, 1>, skinny_tile<T, 2>,
                                                   skinny_tile<T, 3>, skinny_tile<T, 4>};
  for (std::int64_t column = 0; column < task.n; column += kLanes<T>) {
    for (std::int64_t term = 0; term < task.k; term += block_k) {
      kRun[task.m - 1](smaller(block_k, task.k - term), task.a + term, task.lda,
                       task.b + column * task.ldb + term, task.ldb, task.c + column, task.ldc,
                       smaller(kLanes<T>, task.n - column), task.accumulate || term > 0);
    }
  }
}

template <class T>
void fill_zero(const GemmTask<T>& task) {
  for (std::int64_t i = 0; i < task.m; ++i) {
    for (std::int64_t j = 0; j < task.n; ++j) task.c[i * task.ldc + j] = 0;
  }
}

}  // namespace

template <class T>
void gemm_tiling(GemmTiling* tiling) {
  *tiling = {kTileRows, kTileColumns<T>, kBlockK * (kBlockColumns + kBlockRows) + kSlack};
}

template <class T>
void gemm(const GemmTask<T>& task, T* workspace) {
  if (task.k == 0 && !task.accumulate) fill_zero(task);
  if (task.k == 0) return;
  T* packed_b = workspace;
  T* packed_a = workspace + kBlockK * kBlockColumns;
  const std::int64_t block_k =
      ceil_div(ceil_div(task.k, ceil_div(task.k, kBlockK)), kBlockKStep) * kBlockKStep;
  if (task.m <= kSkinnyRows && task.b_transposed && !task.a_transposed) {
    return skinny(task, block_k);
  }
  const std::int64_t row_blocks = ceil_div(task.m, kBlockRows);
  for (std::int64_t column = 0; column < task.n; column += kBlockColumns) {
    const std::int64_t column_end = smaller(task.n, column + kBlockColumns);
    for (std::int64_t term = 0; term < task.k; term += block_k) {
      const std::int64_t k = smaller(block_k, task.k - term);
      for (std::int64_t block = 0; block < row_blocks; ++block) {
        const std::int64_t row = task.m * block / row_blocks;
        const std::int64_t rows = task.m * (block + 1) / row_blocks - row;
        const RowTiles tiles{rows, ceil_div(rows, kTileRows)};
        pack_a(task, row, tiles, term, k, packed_a);
        for (std::int64_t j = column; j < column_end; j += kTileColumns<T>) {
          const std::int64_t columns = smaller(kTileColumns<T>, column_end - j);
          T* panel = row_blocks == 1 ? packed_b : packed_b + (j - column) * k;
          run_panel(task, tiles, row, j, columns, term, k, packed_a, panel, block == 0);
        }
      }
    }
  }
}

template void gemm_tiling<float>(GemmTiling*);
template void gemm_tiling<double>(GemmTiling*);
template void gemm(const GemmTask<float>&, float*);
template void gemm(const GemmTask<double>&, double*);

}  // namespace witan::cpu::WITAN_ISA
