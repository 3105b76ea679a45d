#include "core/ops/cpu/row_kernels.h"

#include "core/ops/cpu/bfloat16.h"
#include "core/ops/cpu/vec.h"

namespace witan::cpu::WITAN_ISA {

// What comes next is fetched while this row moves: rows lie far apart, often in another rank's
// memory.
template <class T, class Y>
void gather_rows_of_two(const T* first, std::int64_t split, const T* second,
                        const std::int32_t* index, Y* y, std::int64_t rows, std::int64_t d) {
  const auto row = [&](std::int64_t r) {
    return index[r] < split ? first + index[r] * d : second + (index[r] - split) * d;
  };
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* from = row(r);
    const bool last = r + 1 == rows;
    const T* next_from = row(last ? r : r + 1);
    Y* to = y + r * d;
    Y* next_to = last ? to : to + d;
    for_each_vec<T>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      __builtin_prefetch(next_from + i);
      __builtin_prefetch(next_to + i, 1);
      store_as(to + i, load(from + i, part), part);
    });
  }
}

template <class T>
void gather_rows(const T* x, const std::int32_t* index, T* y, std::int64_t rows, std::int64_t d) {
  const std::size_t bytes = static_cast<std::size_t>(d) * sizeof(T);
  for (std::int64_t r = 0; r < rows; ++r) __builtin_memcpy(y + r * d, x + index[r] * d, bytes);
}

template <class T>
void scatter_rows(const T* x, const std::int32_t* index, T* y, std::int64_t rows, std::int64_t d) {
  const std::size_t bytes = static_cast<std::size_t>(d) * sizeof(T);
  for (std::int64_t r = 0; r < rows; ++r) __builtin_memcpy(y + index[r] * d, x + r * d, bytes);
}

template <class T>
void scatter_add_rows(const T* x, const std::int32_t* index, T* y, std::int64_t rows,
                      std::int64_t d, std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* from = x + r * d;
    T* to = y + index[r] * d;
    for_each_vec<T>(columns, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      store(to + i, load(to + i, part) + load(from + i, part), part);
    });
  }
}

template <class T>
void gather_sum_rows(const T* x, const std::int32_t* begin, const std::int32_t* index, T* y,
                     bool accumulate, std::int64_t rows, std::int64_t d) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int32_t* list = index + begin[r];
    const std::int64_t k = begin[r + 1] - begin[r];
    T* to = y + r * d;
    for_each_vec<T>(d, [&](std::int64_t i, auto part) WITAN_LAMBDA {
      Vec<T> sum = {};
      for (std::int64_t j = 0; j < k; ++j) sum += load(x + list[j] * d + i, part);
      if (accumulate) sum += load(to + i, part);
      store(to + i, sum, part);
    });
  }
}

#define WITAN_INSTANTIATE(T)                                                                    \
  template void gather_rows(const T*, const std::int32_t*, T*, std::int64_t, std::int64_t);     \
  template void scatter_rows(const T*, const std::int32_t*, T*, std::int64_t, std::int64_t);    \
  template void scatter_add_rows(const T*, const std::int32_t*, T*, std::int64_t, std::int64_t, \
                                 std::int64_t);                                                 \
  template void gather_sum_rows(const T*, const std::int32_t*, const std::int32_t*, T*, bool,   \
                                std::int64_t, std::int64_t);
WITAN_INSTANTIATE(float)
WITAN_INSTANTIATE(double)

#define WITAN_INSTANTIATE_GATHER(T, Y)                                                        \
  template void gather_rows_of_two(const T*, std::int64_t, const T*, const std::int32_t*, Y*, \
                                   std::int64_t, std::int64_t);
WITAN_INSTANTIATE_GATHER(float, float)
WITAN_INSTANTIATE_GATHER(float, Bfloat16)
WITAN_INSTANTIATE_GATHER(double, double)

}  // namespace witan::cpu::WITAN_ISA
