// Conversions against every bit pattern, or against the definition of rounding to nearest even.
#include "launch/checkpoint/float_convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace witan {
namespace {

std::vector<std::uint16_t> all_patterns() {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  return bits;
}

TEST(FloatConvertTest, EveryHalfByItsDefinition) {
  const std::vector<std::uint16_t> bits = all_patterns();
  std::vector<float> values(bits.size());
  convert_floats(StDType::kF16, bits.data(), StDType::kF32, values.data(), 65536);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const int exponent = (bits[i] >> 10) & 31;
    const int mantissa = bits[i] & 1023;
    const double sign = bits[i] >= 0x8000 ? -1.0 : 1.0;
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(values[i]));
      continue;
    }
    const double expected = exponent == 31  ? HUGE_VAL
                            : exponent == 0 ? std::ldexp(mantissa, -24)
                                            : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(values[i], static_cast<float>(sign * expected)) << i;
    ASSERT_EQ(std::signbit(values[i]), bits[i] >= 0x8000) << i;
  }
}

TEST(FloatConvertTest, EveryBfloat16ThereAndBack) {
  const std::vector<std::uint16_t> bits = all_patterns();
  for (const StDType wide : {StDType::kF32, StDType::kF64}) {
    std::vector<std::uint64_t> values(bits.size());
    std::vector<std::uint16_t> back(bits.size());
    convert_floats(StDType::kBF16, bits.data(), wide, values.data(), 65536);
    convert_floats(wide, values.data(), StDType::kBF16, back.data(), 65536);
    for (std::size_t i = 0; i < bits.size(); ++i) {
      const bool nan = (bits[i] & 0x7f80) == 0x7f80 && (bits[i] & 0x7f) != 0;
      if (nan) {
        EXPECT_EQ(back[i] & 0x7fc0, 0x7fc0) << i;
      } else {
        ASSERT_EQ(back[i], bits[i]);
      }
    }
  }
}

std::uint16_t to_bfloat16(StDType dtype, const void* value) {
  std::uint16_t result = 0;
  convert_floats(dtype, value, StDType::kBF16, &result, 1);
  return result;
}

TEST(FloatConvertTest, RoundsToNearestEven) {
  const auto of = [](float value) { return to_bfloat16(StDType::kF32, &value); };
  EXPECT_EQ(of(std::bit_cast<float>(0x3f808000U)), 0x3f80);  // a tie: to even, down
  EXPECT_EQ(of(std::bit_cast<float>(0x3f818000U)), 0x3f82);  // a tie: to even, up
  EXPECT_EQ(of(std::bit_cast<float>(0x3f808001U)), 0x3f81);
  EXPECT_EQ(of(std::bit_cast<float>(0x3f807fffU)), 0x3f80);
  EXPECT_EQ(of(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(of(-std::numeric_limits<float>::infinity()), 0xff80);
  EXPECT_EQ(of(std::bit_cast<float>(0x7f800001U)) & 0x7fc0, 0x7fc0);
}

// A double close to a tie between two bfloat16 must not be rounded to the tie first.
TEST(FloatConvertTest, RoundsDoublesOnce) {
  const auto of = [](double value) { return to_bfloat16(StDType::kF64, &value); };
  const double tie = 1.0 + 1.0 / 256;
  EXPECT_EQ(of(tie), 0x3f80);
  EXPECT_EQ(of(tie + 1e-12), 0x3f81);
  EXPECT_EQ(of(tie - 1e-12), 0x3f80);
  const double upper_tie = 1.0 + 3.0 / 256;
  EXPECT_EQ(of(upper_tie), 0x3f82);
  EXPECT_EQ(of(upper_tie - 1e-12), 0x3f81);
  EXPECT_EQ(of(-tie - 1e-12), 0xbf81);
  EXPECT_EQ(of(1e300), 0x7f80);
  EXPECT_EQ(of(-1e-300), 0x8000);
}

TEST(FloatConvertTest, UnalignedMemory) {
  std::vector<std::byte> from(1 + 4 * 3), to(3 + 8 * 3);
  const float values[3] = {1.25F, -3.0F, 1e-30F};
  std::copy_n(reinterpret_cast<const std::byte*>(values), 12, from.data() + 1);
  convert_floats(StDType::kF32, from.data() + 1, StDType::kF64, to.data() + 3, 3);
  double result[3];
  std::copy_n(to.data() + 3, 24, reinterpret_cast<std::byte*>(result));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(result[i], static_cast<double>(values[i]));
}

}  // namespace
}  // namespace witan
