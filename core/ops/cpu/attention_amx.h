// What the forward and the backward of attention on AMX tiles share. For kernel files of the level
// amx only.
#pragma once

#include "core/ops/cpu/amx_tiles.h"
#include "core/ops/cpu/attention_amx_kernels.h"

namespace witan::cpu::WITAN_ISA {
namespace {

constexpr float kLog2e = 1.44269504088896341F;

// 2^x to about 1 ulp; the degree-6 polynomial is the best on [-1/2, 1/2] by relative error. 0 in
// lanes outside of the mask, whatever x is there.
WITAN_INLINE Pairs exp2(__mmask16 lanes, Pairs x) {
  const __m512 n =
      _mm512_maskz_roundscale_ps(lanes, (__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Pairs r = x - (Pairs)n;
  Pairs p = r * 0x1.41a6fep-13F + 0x1.5f44fp-10F;
  p = p * r + 0x1.3b2dfep-7F;
  p = p * r + 0x1.c6aed6p-5F;
  p = p * r + 0x1.ebfbdap-3F;
  p = p * r + 0x1.62e43p-1F;
  p = p * r + 1.0F;
  return (Pairs)_mm512_maskz_scalef_ps(lanes, (__m512)p, n);
}

// The first `count` (any integer) lanes of 16.
WITAN_INLINE std::uint32_t lanes_below(std::int64_t count) {
  return count <= 0 ? 0U : count >= kTile ? 0xFFFFU : (1U << count) - 1U;
}

// Cuts a workspace into arrays.
struct AmxWorkspace {
  float* next;
  float* take(std::int64_t count) {
    float* taken = next;
    next += count;
    return taken;
  }
  Value* take_packed(std::int64_t count) { return reinterpret_cast<Value*>(take(count / 2)); }
};

constexpr std::int64_t padded(std::int64_t n, std::int64_t to) { return ceil_div(n, to) * to; }

// All `lines` of an operand over all its terms, with a group of zeros behind an odd number of
// groups: groups are multiplied in twos.
void pack_lines(const Operand& from, std::int64_t lines, std::int64_t terms, Value* to) {
  pack(from, 0, lines, 0, terms, to);
  const std::int64_t groups = ceil_div(lines, kTile);
  const std::int64_t group = ceil_div(terms, kTerms) * kPacked;
  if (groups % 2 == 1) {
    std::memset(to + groups * group, 0, static_cast<std::size_t>(group) * sizeof(Value));
  }
}

// Terms stand in blocks of `block`, one packed after the other.
void pack_blocks(const Operand& from, std::int64_t lines, std::int64_t terms, std::int64_t block,
                 Value* to) {
  for (std::int64_t term = 0; term < terms; term += block) {
    pack(from, 0, lines, term, smaller(block, terms - term), to + term * padded(lines, kTile));
  }
}

// c [rows, columns] += a b; rows and columns are multiples of 16.
void add_product(std::int64_t rows, std::int64_t columns, std::int64_t chunks, PackedLines a,
                 PackedLines b, float* c, std::int64_t ldc) {
  for (std::int64_t i = 0; i < rows; i += 2 * kTile) {
    for (std::int64_t j = 0; j < columns; j += 2 * kTile) {
      multiply_block(smaller(2 * kTile, rows - i), smaller(2 * kTile, columns - j), chunks,
                     {a.data + i / kTile * a.group, a.group},
                     {b.data + j / kTile * b.group, b.group}, c + i * ldc + j, ldc, true);
    }
  }
}

}  // namespace
}  // namespace witan::cpu::WITAN_ISA
