#include "launch/checkpoint/float_convert.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/base/error.h"

namespace witan {
namespace {

// One value of each format, as stored.
struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

double widen(double value) { return value; }
float widen(float value) { return value; }
float widen(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}
float widen(Half value) {
  const std::uint32_t sign = (value.bits & 0x8000U) << 16;
  const std::uint32_t rest = value.bits & 0x7fffU;
  if (rest >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000U | (rest & 0x3ffU) << 13);
  // Moved into place, the exponent is too small by the difference of the biases; the product is
  // exact, also for subnormal values.
  return std::bit_cast<float>(
      sign | std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest << 13) * 0x1p112F));
}

void narrow(double value, double& to) { to = value; }
void narrow(double value, float& to) { to = static_cast<float>(value); }

void narrow(float value, BFloat16& to) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) {
    to.bits = static_cast<std::uint16_t>(bits >> 16 | 0x40U);  // the rest of its payload is cut off
  } else {
    to.bits = static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
  }
}

void narrow(double value, BFloat16& to) {
  auto single = static_cast<float>(value);
  // Rounding twice errs where the first rounding made a tie; an odd last bit tells which side of it
  // the value is on.
  if (static_cast<double>(single) != value && std::isfinite(single)) {
    if (std::fabs(static_cast<double>(single)) > std::fabs(value)) {
      single = std::nextafterf(single, 0.0F);
    }
    single = std::bit_cast<float>(std::bit_cast<std::uint32_t>(single) | 1U);
  }
  narrow(single, to);
}

template <class F>
void dispatch_from(StDType dtype, F&& f) {
  switch (dtype) {
    case StDType::kF64: return f(double{});
    case StDType::kF32: return f(float{});
    case StDType::kF16: return f(Half{});
    case StDType::kBF16: return f(BFloat16{});
    default: WITAN_CHECK(false, "not a float format: ", name_of(dtype));
  }
}

template <class F>
void dispatch_to(StDType dtype, F&& f) {
  switch (dtype) {
    case StDType::kF64: return f(double{});
    case StDType::kF32: return f(float{});
    case StDType::kBF16: return f(BFloat16{});
    default: WITAN_CHECK(false, "cannot convert to ", name_of(dtype));
  }
}

template <class From, class To>
void convert(const std::byte* from, std::byte* to, std::int64_t count) {
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    To result;
    std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
    narrow(widen(value), result);
    std::memcpy(to + i * static_cast<std::int64_t>(sizeof(To)), &result, sizeof(To));
  }
}

}  // namespace

bool is_float(StDType dtype) {
  return dtype == StDType::kF64 || dtype == StDType::kF32 || dtype == StDType::kF16 ||
         dtype == StDType::kBF16;
}

StDType st_dtype_of(DType dtype) {
  WITAN_CHECK(dtype == DType::kFloat32 || dtype == DType::kFloat64,
              "expected float32 or float64, found ", name_of(dtype));
  return dtype == DType::kFloat32 ? StDType::kF32 : StDType::kF64;
}

void convert_floats(StDType from_dtype, const void* from, StDType to_dtype, void* to,
                    std::int64_t count) {
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * size_of(from_dtype));
    return;
  }
  dispatch_from(from_dtype, [&](auto source) {
    dispatch_to(to_dtype, [&](auto target) {
      convert<decltype(source), decltype(target)>(static_cast<const std::byte*>(from),
                                                  static_cast<std::byte*>(to), count);
    });
  });
}

}  // namespace witan
