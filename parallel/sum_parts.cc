#include "parallel/sum_parts.h"

#include <algorithm>
#include <cstdint>

namespace witan {
namespace {

constexpr std::int64_t kBlock = 4096;  // elements: a block of the sum stays in the L1 cache

// Elements [begin, end) of the sum; the values of part p stand at part_of(p).
template <class T, class PartOf>
void sum_block(const PartOf& part_of, int ranks, std::int64_t begin, std::int64_t end, T* sum) {
  T block[kBlock];
  const std::int64_t n = end - begin;
  const T* first = part_of(0) + begin;
  std::copy(first, first + n, block);
  for (int part = 1; part < ranks; ++part) {
    const T* values = part_of(part) + begin;
    for (std::int64_t i = 0; i < n; ++i) block[i] += values[i];
  }
  std::copy(block, block + n, sum + begin);
}

template <class T>
void sum_all(const TensorView& own_part, const TensorView& arrived, int rank, int ranks,
             const TensorView& sum) {
  const std::int64_t n = sum.size();
  const T* const own = own_part.as<T>();
  const T* const others = arrived.as<T>();
  T* const out = sum.as<T>();
  const auto part_of = [=](int part) {
    return part == rank ? own : others + n * (part < rank ? part : part - 1);
  };
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < n; begin += kBlock)
    sum_block<T>(part_of, ranks, begin, std::min(begin + kBlock, n), out);
}

}  // namespace

void sum_parts(const TensorView& own_part, const TensorView& arrived, int rank, int ranks,
               const TensorView& sum) {
  switch (sum.dtype) {
    case DType::kFloat32: return sum_all<float>(own_part, arrived, rank, ranks, sum);
    case DType::kFloat64: return sum_all<double>(own_part, arrived, rank, ranks, sum);
    case DType::kInt32: return sum_all<std::int32_t>(own_part, arrived, rank, ranks, sum);
    case DType::kInt64: return sum_all<std::int64_t>(own_part, arrived, rank, ranks, sum);
    case DType::kBfloat16: break;
  }
  WITAN_CHECK(false, "a sum of tensors of ", name_of(sum.dtype));
}

}  // namespace witan
