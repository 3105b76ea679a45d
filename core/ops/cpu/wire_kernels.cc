#include "core/ops/cpu/wire_kernels.h"

#include "core/ops/cpu/bfloat16.h"

namespace witan::cpu::WITAN_ISA {
void narrow_rows(const float* x, const std::int32_t* index, std::uint16_t* to, std::int64_t rows,
                 std::int64_t d, std::int64_t pitch) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* from = x + (index == nullptr ? r : index[r]) * d;
    auto* row = reinterpret_cast<Bfloat16*>(to + r * pitch);
    for_each_vec<float>(d, [&](std::int64_t i, auto part)
                               WITAN_LAMBDA { store_as(row + i, load(from + i, part), part); });
    for (std::int64_t i = d; i < pitch; ++i) row[i] = {};
  }
}

void widen_rows(const std::uint16_t* from, float* y, std::int64_t rows, std::int64_t d,
                std::int64_t pitch) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto* row = reinterpret_cast<const Bfloat16*>(from + r * pitch);
    for_each_vec<float>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      store(y + r * d + i, load_wide(row + i, part), part);
    });
  }
}

template <class T>
void sum_rows(const void* const* row, const std::int32_t* begin, const std::int32_t* index, T* y,
              std::int64_t tokens, std::int64_t d) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    T* to = y + t * d;
    T* next_to = t + 1 < tokens ? to + d : to;
    // The rows of the next token, if it has as many, are fetched meanwhile.
    const std::int32_t count = begin[t + 1] - begin[t];
    const std::int32_t ahead = begin[t + 1] + count <= begin[tokens] ? count : 0;
    for_each_vec<T>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      Vec<T> sum = {};
      for (std::int32_t j = begin[t]; j < begin[t + 1]; ++j) {
        __builtin_prefetch(static_cast<const T*>(row[index[j + ahead]]) + i);
        sum += load(static_cast<const T*>(row[index[j]]) + i, part);
      }
      __builtin_prefetch(next_to + i, 1);
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
        const auto* from = static_cast<const Bfloat16*>(row[index[j]]);
        for_each_vec<float>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
          store(to + i, load(to + i, part) + load_wide(from + i, part), part);
        });
      }
    }
  }
}

template void sum_rows(const void* const*, const std::int32_t*, const std::int32_t*, float*,
                       std::int64_t, std::int64_t);
template void sum_rows(const void* const*, const std::int32_t*, const std::int32_t*, double*,
                       std::int64_t, std::int64_t);

}  // namespace witan::cpu::WITAN_ISA
