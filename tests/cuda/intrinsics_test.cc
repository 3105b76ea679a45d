// The instructions of device_intrinsics.h do what their documented layouts say: products of small
// whole numbers, which bfloat16 and float32 hold exactly.
#include <gtest/gtest.h>

#include <bit>

#include "tests/cuda/cuda_case.h"
#include "tests/cuda/intrinsic_kernels.h"

namespace witan::test {
namespace {

using IntrinsicsCuda = CudaTest;

constexpr std::int64_t kRows = 16;
constexpr std::int64_t kSize = 32;

// Mostly zeros, so that the products of products stay small as well.
std::vector<float> whole_numbers(std::int64_t size, const char* name) {
  const Random random(5, "test", name);
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = random.bits(i) % 4 == 0 ? static_cast<float>(random.bits(i) / 4 % 7) - 3 : 0;
  }
  return values;
}

// The upper halves of the floats' bits, two in an int32 as they stand in memory.
std::vector<std::int32_t> as_bfloat16(const std::vector<float>& values) {
  std::vector<std::int32_t> pairs;
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const auto low = std::bit_cast<std::uint32_t>(values[i]) >> 16;
    const auto high = std::bit_cast<std::uint32_t>(values[i + 1]) >> 16;
    pairs.push_back(static_cast<std::int32_t>(high << 16 | low));
  }
  return pairs;
}

TEST_F(IntrinsicsCuda, ProductsOfWholeNumbersAreExact) {
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  const auto a = whole_numbers(kRows * kSize, "a");
  const auto b = whole_numbers(kSize * kSize, "b");
  const auto at = [](std::int64_t row, std::int64_t column) {
    return static_cast<std::size_t>(row * kSize + column);
  };
  std::vector<float> scores(a.size());
  std::vector<float> sums(a.size());
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t j = 0; j < kSize; ++j) {
      for (std::int64_t k = 0; k < kSize; ++k) scores[at(i, j)] += a[at(i, k)] * b[at(j, k)];
      ASSERT_LE(std::abs(scores[at(i, j)]), 256.0f) << "bfloat16 would round it";
    }
    for (std::int64_t j = 0; j < kSize; ++j) {
      for (std::int64_t k = 0; k < kSize; ++k) sums[at(i, j)] += scores[at(i, k)] * b[at(k, j)];
    }
  }
  const Tensor a_cuda = on_cuda(ctx, as_bfloat16(a), {kRows, kSize / 2});
  const Tensor b_cuda = on_cuda(ctx, as_bfloat16(b), {kSize, kSize / 2});
  for (int order = 0; order < kOrders; ++order) {
    choose_order(order);
    const Tensor scores_cuda({kRows, kSize}, DType::kFloat32, kCuda);
    const Tensor sums_cuda({kRows, kSize}, DType::kFloat32, kCuda);
    multiply_by_mma(ctx, static_cast<const std::uint16_t*>(a_cuda.view().data),
                    static_cast<const std::uint16_t*>(b_cuda.view().data), scores_cuda.as<float>(),
                    sums_cuda.as<float>());
    EXPECT_EQ(to_host<float>(ctx, scores_cuda), scores);
    EXPECT_EQ(to_host<float>(ctx, sums_cuda), sums);
  }
}

}  // namespace
}  // namespace witan::test
