#include <immintrin.h>

#include "core/ops/cpu/limit_kernels.h"

namespace witan::cpu::WITAN_ISA {
namespace {

constexpr int kRows = 16;
constexpr int kLine = 64;  // bytes of a row of a tile

// Whole in memory: a compiler may see only the first bytes of what the instruction reads.
struct alignas(64) Configuration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t line_bytes[16] = {kLine, kLine, kLine, kLine, kLine, kLine, kLine, kLine};
  std::uint8_t rows[16] = {kRows, kRows, kRows, kRows, kRows, kRows, kRows, kRows};
};
constexpr Configuration kConfiguration;

}  // namespace

void bf16_products(std::int64_t rounds, double* flops) {
  constexpr double kFlopsOfOne = 2.0 * kRows * 16 * 32;  // 16 x 16 sums of 32 products
  _tile_loadconfig(&kConfiguration);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (std::int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  *flops += 4.0 * kFlopsOfOne * static_cast<double>(rounds);
}

}  // namespace witan::cpu::WITAN_ISA
