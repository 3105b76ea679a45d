// Products on AMX tiles: operands packed as bfloat16, sums in float32. For kernel files of the
// level amx only.
//
// A packed tile is 1 KiB, 16 lines of 16 pairs: of A a line is a row of C and a pair two
// neighbouring terms; of B a line is a pair of terms and a pair stands in the column of C. The
// register tile is 32 x 32 sums in four AMX tiles, fed by two tiles of A and two of B, 32 terms at
// a time.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "core/ops/cpu/gemm_operands.h"
#include "core/ops/cpu/transpose.h"

namespace witan::cpu::WITAN_ISA {
namespace {

constexpr std::int64_t kTile = 16;     // rows or columns of C in a tile
constexpr std::int64_t kTerms = 32;    // terms in a tile
constexpr std::int64_t kPacked = 512;  // values of a packed tile

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

using Pairs = Vec<float>;  // 16 pairs of bfloat16, moved as floats
// Bits of a bfloat16. May alias: the workspace is one of floats.
using Value __attribute__((may_alias)) = std::uint16_t;

// The first `count` of 32 values; zeros behind them.
[[maybe_unused]] Pairs first_pairs(const Bfloat16* from, std::int64_t count) {
  if (count >= kTerms) return load(reinterpret_cast<const float*>(from));
  const __mmask32 mask = count > 0 ? (1U << count) - 1U : 0U;
  return (Pairs)_mm512_maskz_loadu_epi16(mask, from);
}

// The first `count` of 16 values; zeros behind them.
Pairs first_values(const float* from, std::int64_t count) {
  if (count >= kTile) return load(from);
  return count > 0 ? load(from, Part{static_cast<int>(count)}) : Pairs{};
}

// A packed tile whose lines are `lines` rows of memory with up to 32 neighbouring terms each.
void load_rows(const float* from, std::int64_t ld, std::int64_t lines, std::int64_t terms,
               Pairs (&tile)[kTile]) {
#pragma GCC unroll 16
  for (int i = 0; i < kTile; ++i) {
    tile[i] = i < lines ? pairs_of_neighbours(first_values(from + i * ld, terms),
                                              first_values(from + i * ld + kTile, terms - kTile))
                        : Pairs{};
  }
}

[[maybe_unused]] void load_rows(const Bfloat16* from, std::int64_t ld, std::int64_t lines,
                                std::int64_t terms, Pairs (&tile)[kTile]) {
#pragma GCC unroll 16
  for (int i = 0; i < kTile; ++i) tile[i] = i < lines ? first_pairs(from + i * ld, terms) : Pairs{};
}

// A packed tile whose lines are pairs of rows of memory, one row a term.
void load_terms(const float* from, std::int64_t ld, std::int64_t columns, std::int64_t terms,
                Pairs (&tile)[kTile]) {
#pragma GCC unroll 16
  for (int i = 0; i < kTile; ++i) {
    const float* low = from + 2 * i * ld;
    tile[i] = pairs_of_lanes(first_values(low, 2 * i < terms ? columns : 0),
                             first_values(low + ld, 2 * i + 1 < terms ? columns : 0));
  }
}

[[maybe_unused]] void load_terms(const Bfloat16* from, std::int64_t ld, std::int64_t columns,
                                 std::int64_t terms, Pairs (&tile)[kTile]) {
  const Part part{static_cast<int>(smaller(columns, kTile))};
#pragma GCC unroll 16
  for (int i = 0; i < kTile; ++i) {
    const Bfloat16* low = from + 2 * i * ld;
    tile[i] = pairs_of_bits(2 * i < terms ? load_bits(low, part) : VecBits{},
                            2 * i + 1 < terms ? load_bits(low + ld, part) : VecBits{});
  }
}

void store_tile(const Pairs (&tile)[kTile], Value* to) {
#pragma GCC unroll 16
  for (int i = 0; i < kTile; ++i) {
    std::memcpy(to + i * kTerms, &tile[i], sizeof(Pairs));
  }
}

// One operand, of float or Bfloat16, as the packing sees it: lines of C's rows (A) or columns (B),
// and terms.
template <class V>
struct OperandOf {
  const V* data;
  std::int64_t ld;
  bool terms_apart;  // a row of memory holds one term of every line, not every term of one line
  bool is_a;

  const V* at(std::int64_t line, std::int64_t term) const {
    return terms_apart ? data + term * ld + line : data + line * ld + term;
  }
};

using Operand = OperandOf<float>;

// Lines [line, line + lines) over terms [term, term + terms): 16 lines after the other, each as
// [chunks of terms] tiles.
template <class V>
void pack(const OperandOf<V>& from, std::int64_t line, std::int64_t lines, std::int64_t term,
          std::int64_t terms, Value* to) {
  Pairs tile[kTile];
  const std::int64_t chunks = ceil_div(terms, kTerms);
  const std::int64_t groups = ceil_div(lines, kTile);
  for (std::int64_t step = 0; step < groups * chunks; ++step) {
    // In the order in which memory lies.
    const std::int64_t group = from.terms_apart ? step % groups : step / chunks;
    const std::int64_t chunk = from.terms_apart ? step / groups : step % chunks;
    const V* source = from.at(line + group * kTile, term + chunk * kTerms);
    const std::int64_t lines_left = lines - group * kTile;
    const std::int64_t terms_left = terms - chunk * kTerms;
    if (from.terms_apart) {
      load_terms(source, from.ld, lines_left, terms_left, tile);
    } else {
      load_rows(source, from.ld, lines_left, terms_left, tile);
    }
    if (from.is_a == from.terms_apart) transpose<float>(tile);
    store_tile(tile, to + (group * chunks + chunk) * kPacked);
  }
}

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes_per_line[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig kTileConfig;  // eight tiles of 16 lines of 64 bytes

// Packed lines, 16 after the other, each group as tiles of 32 terms; `group` values lie between the
// groups.
struct PackedLines {
  const Value* data;
  std::int64_t group;
};

// c [kRows tiles, kColumns tiles] (+)= a b over `chunks` times 32 terms; tile registers 0-3 hold C,
// 4 and 5 A, 6 and 7 B.
template <int kRows, int kColumns>
void multiply(std::int64_t chunks, PackedLines a, PackedLines b, float* c, std::int64_t ldc,
              bool accumulate) {
  constexpr int kLine = 64;  // bytes of a packed line
  const std::int64_t stride = ldc * static_cast<std::int64_t>(sizeof(float));
  float* below = c + kTile * ldc;
  asm volatile("" ::: "memory");  // GCC's tile loads do not say that they read memory
  if (accumulate) {
    _tile_loadd(0, c, stride);
    if constexpr (kColumns == 2) _tile_loadd(1, c + kTile, stride);
    if constexpr (kRows == 2) _tile_loadd(2, below, stride);
    if constexpr (kRows == 2 && kColumns == 2) _tile_loadd(3, below + kTile, stride);
  } else {
    _tile_zero(0);
    if constexpr (kColumns == 2) _tile_zero(1);
    if constexpr (kRows == 2) _tile_zero(2);
    if constexpr (kRows == 2 && kColumns == 2) _tile_zero(3);
  }
  const Value* a_below = a.data + a.group;
  const Value* b_right = b.data + b.group;
  for (std::int64_t p = 0; p < chunks * kPacked; p += kPacked) {
    _tile_loadd(4, a.data + p, kLine);
    _tile_loadd(6, b.data + p, kLine);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumns == 2) {
      _tile_loadd(7, b_right + p, kLine);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRows == 2) {
      _tile_loadd(5, a_below + p, kLine);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kRows == 2 && kColumns == 2) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, stride);
  if constexpr (kColumns == 2) _tile_stored(1, c + kTile, stride);
  if constexpr (kRows == 2) _tile_stored(2, below, stride);
  if constexpr (kRows == 2 && kColumns == 2) _tile_stored(3, below + kTile, stride);
}

using Multiply = void (*)(std::int64_t, PackedLines, PackedLines, float*, std::int64_t, bool);
constexpr Multiply kMultiply[2][2] = {{multiply<1, 1>, multiply<1, 2>},
                                      {multiply<2, 1>, multiply<2, 2>}};

// Up to 32 x 32 of C.
[[maybe_unused]] void multiply_block(std::int64_t rows, std::int64_t columns, std::int64_t chunks,
                                     PackedLines a, PackedLines b, float* c, std::int64_t ldc,
                                     bool accumulate) {
  const Multiply run = kMultiply[rows > kTile ? 1 : 0][columns > kTile ? 1 : 0];
  if (rows % kTile == 0 && columns % kTile == 0) {
    return run(chunks, a, b, c, ldc, accumulate);
  }
  constexpr std::int64_t kSide = 2 * kTile;
  alignas(64) float edge[kSide * kSide];
  if (accumulate) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) edge[i * kSide + j] = c[i * ldc + j];
    }
  }
  run(chunks, a, b, edge, kSide, accumulate);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) c[i * ldc + j] = edge[i * kSide + j];
  }
}

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
