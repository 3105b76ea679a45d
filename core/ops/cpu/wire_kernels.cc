#include "core/ops/cpu/wire_kernels.h"

#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {
namespace {

// Plain loops over bits, which the compiler turns into vector code at every level.
WITAN_INLINE std::uint16_t narrow(float x) {
  std::uint32_t bits = 0;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x40U;  // adding would turn some NaNs into zero
  return static_cast<std::uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? quiet_nan : rounded);
}

WITAN_INLINE float widen(std::uint16_t x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
  float wide = 0.0F;
  __builtin_memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

}  // namespace

void narrow_rows(const float* x, const std::int32_t* index, std::uint16_t* to, std::int64_t rows,
                 std::int64_t d, std::int64_t pitch) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* from = x + (index == nullptr ? r : index[r]) * d;
    std::uint16_t* row = to + r * pitch;
    for (std::int64_t i = 0; i < d; ++i) row[i] = narrow(from[i]);
    for (std::int64_t i = d; i < pitch; ++i) row[i] = 0;
  }
}

void widen_rows(const std::uint16_t* from, float* y, std::int64_t rows, std::int64_t d,
                std::int64_t pitch) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < d; ++i) y[r * d + i] = widen(from[r * pitch + i]);
  }
}

template <class T>
void sum_rows(const void* const* row, const std::int32_t* begin, const std::int32_t* index, T* y,
              std::int64_t tokens, std::int64_t d) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    T* to = y + t * d;
    for_each_vec<T>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      Vec<T> sum = {};
      for (std::int32_t j = begin[t]; j < begin[t + 1]; ++j)
        sum += load(static_cast<const T*>(row[index[j]]) + i, part);
      store(to + i, sum, part);
    });
  }
}

void sum_mixed_rows(const void* const* row, const std::uint8_t* narrow, const std::int32_t* begin,
                    const std::int32_t* index, float* y, std::int64_t tokens, std::int64_t d) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    float* to = y + t * d;
    for (std::int64_t i = 0; i < d; ++i) to[i] = 0.0F;
    for (std::int32_t j = begin[t]; j < begin[t + 1]; ++j) {
      if (narrow[index[j]] == 0) {
        const auto* from = static_cast<const float*>(row[index[j]]);
        for (std::int64_t i = 0; i < d; ++i) to[i] += from[i];
      } else {
        const auto* from = static_cast<const std::uint16_t*>(row[index[j]]);
        for (std::int64_t i = 0; i < d; ++i) to[i] += widen(from[i]);
      }
    }
  }
}

template void sum_rows(const void* const*, const std::int32_t*, const std::int32_t*, float*,
                       std::int64_t, std::int64_t);
template void sum_rows(const void* const*, const std::int32_t*, const std::int32_t*, double*,
                       std::int64_t, std::int64_t);

}  // namespace witan::cpu::WITAN_ISA
