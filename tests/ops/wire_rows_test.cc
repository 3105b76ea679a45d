#include "core/ops/wire_rows.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/support/op_case.h"

namespace witan {
namespace {

using test::Values;

// Packs rows 2, 0, 2 of x [3, d] and unpacks them again.
Values there_and_back(const Values& x, std::int64_t d, DType dtype, ops::WireFormat format) {
  const Tensor from = test::tensor_of(x, {3, d}, dtype);
  const Tensor index = test::tensor_of(std::vector<std::int32_t>{2, 0, 2}, {3});
  const auto bytes = static_cast<std::size_t>(3 * ops::wire_row_bytes(format, dtype, d));
  std::vector<std::byte> wire(bytes);
  ops::pack_rows({}, from, index, format, wire.data());
  const Tensor to = test::unwritten({3, d}, dtype);
  ops::unpack_rows({}, wire.data(), format, to);
  return test::values_of(to);
}

Values all_there_and_back(const Values& x, std::int64_t d, ops::WireFormat format) {
  const auto rows = static_cast<std::int64_t>(x.size()) / d;
  const auto bytes =
      static_cast<std::size_t>(rows * ops::wire_row_bytes(format, DType::kFloat32, d));
  std::vector<std::byte> wire(bytes);
  ops::pack_all_rows({}, test::tensor_of(x, {rows, d}, DType::kFloat32), format, wire.data());
  const Tensor to = test::unwritten({rows, d}, DType::kFloat32);
  ops::unpack_rows({}, wire.data(), format, to);
  return test::values_of(to);
}

TEST(WireRows, RowsAsTheyAreKeepTheirBits) {
  for (const std::int64_t d : {1, 3, 32, 67}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      const Values x =
          test::values_of(test::tensor_of(test::random_normal(3 * d, 1), {3, d}, dtype));
      const Values found = there_and_back(x, d, dtype, ops::WireFormat::kAsIs);
      for (std::int64_t i = 0; i < 3 * d; ++i) {
        const std::int64_t row = i / d == 1 ? 0 : 2;
        EXPECT_EQ(found[static_cast<std::size_t>(i)], x[static_cast<std::size_t>(row * d + i % d)]);
      }
    }
  }
}

// The nearest of two neighbours, by a loop that knows nothing of bits.
double nearest_bfloat16(double x) {
  if (x == 0.0 || !std::isfinite(x)) return x;
  const double unit = std::ldexp(1.0, std::ilogb(x) - 7);
  return std::nearbyint(x / unit) * unit;  // ties to even
}

TEST(WireRows, Bfloat16IsTheNearest) {
  for (const std::int64_t d : {1, 3, 32, 67}) {
    const Values x = test::random_normal(3 * d, 2);
    const Values found = there_and_back(x, d, DType::kFloat32, ops::WireFormat::kBfloat16);
    for (std::int64_t i = 0; i < 3 * d; ++i) {
      const std::int64_t row = i / d == 1 ? 0 : 2;
      const auto value = static_cast<float>(x[static_cast<std::size_t>(row * d + i % d)]);
      EXPECT_EQ(found[static_cast<std::size_t>(i)], nearest_bfloat16(value));
    }
  }
}

TEST(WireRows, Bfloat16TiesAndTheEndsOfTheRange) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const double tie = 1.0 + std::ldexp(1.0, -8);            // between 1 and 1 + 2^-7
  const double odd_tie = 1.0 + 3.0 * std::ldexp(1.0, -8);  // between 1 + 2^-7 and 1 + 2^-6
  const double most = std::numeric_limits<float>::max();
  const Values found = all_there_and_back(
      {tie, odd_tie, -tie, most, kInf, -kInf, std::nan(""), 0.0}, 8, ops::WireFormat::kBfloat16);
  EXPECT_EQ(found[0], 1.0);
  EXPECT_EQ(found[1], 1.0 + std::ldexp(1.0, -6));
  EXPECT_EQ(found[2], -1.0);
  EXPECT_EQ(found[3], kInf);
  EXPECT_EQ(found[4], kInf);
  EXPECT_EQ(found[5], -kInf);
  EXPECT_TRUE(std::isnan(found[6]));
  EXPECT_EQ(found[7], 0.0);
}

TEST(WireRows, Bfloat16TakesHalfTheBytes) {
  EXPECT_EQ(ops::wire_row_bytes(ops::WireFormat::kAsIs, DType::kFloat64, 5), 40);
  EXPECT_EQ(ops::wire_row_bytes(ops::WireFormat::kBfloat16, DType::kFloat32, 6), 12);
  EXPECT_EQ(ops::wire_row_bytes(ops::WireFormat::kBfloat16, DType::kFloat32, 5), 12);
  EXPECT_THROW(ops::wire_row_bytes(ops::WireFormat::kBfloat16, DType::kFloat64, 5), Error);
}

// Rows of both kinds, in the order of the lists.
TEST(WireRows, SumsRowsFromSeveralPlaces) {
  const float wide[] = {1e8F, 1.0F, 0.5F, 3.0F};
  const std::uint16_t narrow[] = {std::bit_cast<std::uint32_t>(-1e8F) >> 16, 0x4000};  // .., 2
  const void* const rows[] = {wide, wide + 1, narrow, narrow + 1, wide + 3};
  const std::uint8_t flags[] = {0, 0, 1, 1, 0};
  const Tensor begin = test::tensor_of(std::vector<std::int32_t>{0, 3, 3, 5}, {4});
  const Tensor index = test::tensor_of(std::vector<std::int32_t>{0, 1, 2, 3, 4}, {5});
  const Tensor y = test::unwritten({3, 1}, DType::kFloat32);
  ops::sum_wire_rows({}, rows, flags, begin, index, y);
  const float rounded = std::bit_cast<float>(static_cast<std::uint32_t>(narrow[0]) << 16);
  EXPECT_EQ(test::values_of(y), (Values{(1e8F + 1.0F) + rounded, 0.0, 5.0}));

  const void* const all_wide[] = {wide, wide + 1, wide + 2, wide + 3};
  const Tensor order = test::tensor_of(std::vector<std::int32_t>{3, 2, 1, 3, 1}, {5});
  ops::sum_wire_rows({}, all_wide, {}, begin, order, y);
  EXPECT_EQ(test::values_of(y), (Values{4.5, 0.0, 4.0}));
  const Tensor outside = test::tensor_of(std::vector<std::int32_t>{3, 2, 4, 3, 1}, {5});
  EXPECT_THROW(ops::sum_wire_rows({}, all_wide, {}, begin, outside, y), Error);
}

}  // namespace
}  // namespace witan
