#include "launch/checkpoint/tensor_reader.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "launch/checkpoint/float_convert.h"

namespace witan {
namespace {

constexpr std::int64_t kBlock = 128;

// Sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinity (OCP FP8, "e4m3fn").
float decode_e4m3(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  const float sign = (bits & 0x80) != 0 ? -1.0F : 1.0F;
  if ((bits & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> kValues = [] {
    std::array<float, 256> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = decode_e4m3(static_cast<std::uint8_t>(i));
    }
    return values;
  }();
  return kValues;
}

}  // namespace

std::string scale_name(const std::string& tensor) { return tensor + "_scale_inv"; }

std::vector<std::int64_t> scale_shape(const std::vector<std::int64_t>& tensor) {
  std::vector<std::int64_t> shape;
  for (const std::int64_t extent : tensor) shape.push_back((extent + kBlock - 1) / kBlock);
  return shape;
}

TensorReader::TensorReader(WeightFiles& files, const std::string& name) : entry_(files.find(name)) {
  if (entry_.tensor->dtype != StDType::kF8E4M3) return;
  const WeightFiles::Entry scales = files.find(scale_name(name));
  const std::vector<std::int64_t>& shape = entry_.tensor->shape;
  if (shape.size() != 2 || scales.tensor->shape != scale_shape(shape) ||
      !is_float(scales.tensor->dtype)) {
    throw_user_error(entry_.file->path(), ": tensor ", name, ": an fp8 matrix needs ",
                     scale_name(name), " with a float for each block of 128 x 128");
  }
  cols_ = shape[1];
  block_cols_ = scales.tensor->shape[1];
  scales_.resize(static_cast<std::size_t>(scales.tensor->shape[0] * block_cols_));
  convert_floats(scales.tensor->dtype, scales.data(), StDType::kF32, scales_.data(),
                 static_cast<std::int64_t>(scales_.size()));
}

void TensorReader::read(std::int64_t begin, std::int64_t count, StDType dtype, void* to) const {
  const StDType stored = entry_.tensor->dtype;
  const std::byte* from = entry_.data() + static_cast<std::size_t>(begin) * size_of(stored);
  if (stored != StDType::kF8E4M3) {
    convert_floats(stored, from, dtype, to, count);
    return;
  }
  std::vector<float> values(static_cast<std::size_t>(count));
  const std::array<float, 256>& table = e4m3_values();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = (begin + i) / cols_;
    const std::int64_t col = (begin + i) % cols_;
    const auto block = static_cast<std::size_t>(row / kBlock * block_cols_ + col / kBlock);
    values[static_cast<std::size_t>(i)] =
        table[std::to_integer<std::size_t>(from[i])] * scales_[block];
  }
  convert_floats(StDType::kF32, values.data(), dtype, to, count);
}

}  // namespace witan
