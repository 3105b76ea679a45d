// Runs one op, forward and backward, in every way it can run on the CPU, and compares the outcomes.
// A case is a function from a type to named outputs; inputs are drawn in float64 and rounded to
// float32, so that both types compute on the same numbers.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/tensor/tensor.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/threads.h"
#include "tests/support/tolerance.h"

namespace witan::test {

using Values = std::vector<double>;

// Normal numbers that float32 represents exactly.
inline Values random_normal(std::int64_t count, std::uint64_t seed, double scale = 1.0) {
  const Random random(seed, "op_case");
  Values values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(scale * random.normal(i));
  }
  return values;
}

inline std::vector<std::int32_t> random_indices(std::int64_t count, std::int64_t bound,
                                                std::uint64_t seed) {
  const Random random(seed, "op_case");
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int32_t>(random.below(i, static_cast<std::uint64_t>(bound)));
  }
  return values;
}

inline Tensor tensor_of(const Values& values, const Shape& shape, DType dtype) {
  Tensor tensor(shape, dtype);
  EXPECT_EQ(tensor.view().size(), static_cast<std::int64_t>(values.size()));
  dispatch_float(dtype, "tensor_of", [&](auto type) {
    using T = decltype(type);
    std::transform(values.begin(), values.end(), tensor.as<T>(),
                   [](double value) { return static_cast<T>(value); });
  });
  return tensor;
}

inline Tensor tensor_of(const std::vector<std::int32_t>& values, const Shape& shape) {
  Tensor tensor(shape, DType::kInt32);
  EXPECT_EQ(tensor.view().size(), static_cast<std::int64_t>(values.size()));
  std::copy(values.begin(), values.end(), tensor.as<std::int32_t>());
  return tensor;
}

// Memory that an op must overwrite: filled with NaN, so that an element left out is seen.
inline Tensor unwritten(const Shape& shape, DType dtype) {
  return tensor_of(Values(static_cast<std::size_t>(shape.size()), std::nan("")), shape, dtype);
}

inline Values values_of(const TensorView& tensor) {
  Values values(static_cast<std::size_t>(tensor.size()));
  dispatch_float(tensor.dtype, "values_of", [&](auto type) {
    using T = decltype(type);
    std::copy_n(tensor.as<T>(), values.size(), values.begin());
  });
  return values;
}

struct Output {
  std::string name;
  Values values;
};
using Outputs = std::vector<Output>;
using OpCase = std::function<Outputs(DType)>;

// |found - expected| <= tolerance * max(1, max |expected|), element by element. Inputs are of order
// 1, so what cancels in a small result is of order 1 too.
inline void expect_close(const std::string& name, const Values& found, const Values& expected,
                         double tolerance) {
  ASSERT_EQ(found.size(), expected.size()) << name;
  double largest = 1.0;
  for (double value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_LE(std::abs(found[i] - expected[i]), tolerance * largest)
        << name << "[" << i << "]: found " << found[i] << ", expected " << expected[i];
  }
}

// Also where the values are NaN.
inline bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

// Every level of the CPU, in float32 within `tolerance` of float64 and in float64 within
// kFloat64LevelTolerance of each other; the same bits at 1, 2 and 3 threads.
inline void check_op(const OpCase& run, double tolerance) {
  const Outputs reference = run(DType::kFloat64);
  for (CpuIsa isa : executable_isas()) {
    SCOPED_TRACE(name_of(isa));
    const ScopedIsa level(isa);
    for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
      SCOPED_TRACE(name_of(dtype));
      const Outputs found = run(dtype);
      ASSERT_EQ(found.size(), reference.size());
      for (std::size_t i = 0; i < found.size(); ++i) {
        expect_close(found[i].name, found[i].values, reference[i].values,
                     dtype == DType::kFloat32 ? tolerance : kFloat64LevelTolerance);
      }
      for (int threads : {1, 2, 3}) {
        const ScopedThreads scope(threads);
        const Outputs again = run(dtype);
        for (std::size_t i = 0; i < found.size(); ++i) {
          ASSERT_TRUE(same_bits(again[i].values, found[i].values))
              << found[i].name << " differs at " << threads << " threads";
        }
      }
    }
  }
}

}  // namespace witan::test
