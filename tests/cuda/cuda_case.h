// What the tests of CUDA ops share. The same test bodies run on the stand-in (stand_in_fixture.cc)
// and on a GPU (gpu_fixture.cc).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/context.h"
#include "core/base/rng.h"
#include "core/base/stream.h"
#include "core/tensor/tensor.h"
#include "core/tensor/transfer.h"

namespace witan::test {

inline constexpr Device kCuda{DeviceType::kCuda, 0};

// How often a body is run to compare the bits of its results, each time (where that can be chosen)
// with the threads in another order.
inline constexpr int kOrders = 3;

// Calls an op with the tensors of one device.
using CallOp = std::function<void(const Context&, const std::vector<TensorView>&)>;

class CudaTest : public ::testing::Test {
 protected:
  static void choose_order(int order);
  // Both twins of an op, each on copies of `start` (CPU tensors: operands and results): all tensors
  // agree afterwards, integers exactly, and in every order of the threads CUDA's are the same bits.
  // Tolerances are relative to the largest element of a tensor.
  static void expect_twins(const std::vector<Tensor>& start, double tolerance, const CallOp& op,
                           Products products = Products::kFull);
  // No fault was found, and everything allocated has been freed.
  void TearDown() override;
};

template <class T>
std::vector<T> normal_values(std::int64_t size, const std::string& name) {
  const Random random(7, "test", name);
  std::vector<T> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(random.normal(i));
  return values;
}

// CPU tensors for expect_twins: with these values; with normal ones; or with what nobody may read
// (NaN, -1).
template <class T>
Tensor with_values(const std::vector<T>& values, const Shape& shape) {
  return transferred(Context{}, view_of(values.data(), shape), Device{});
}
template <class T>
Tensor normal(const std::string& name, const Shape& shape) {
  return with_values(normal_values<T>(shape.size(), name), shape);
}
Tensor unwritten(const Shape& shape, DType dtype);

template <class T>
Tensor on_cuda(const Context& ctx, const std::vector<T>& values, const Shape& shape) {
  return transferred(ctx, view_of(values.data(), shape), kCuda);
}

template <class T>
std::vector<T> to_host(const Context& ctx, const TensorView& x) {
  std::vector<T> values(static_cast<std::size_t>(x.size()));
  transfer(ctx, x, view_of(values.data(), x.shape));
  return values;
}

// |found - expected| <= tolerance * the largest |expected|, for every element; NaN fails, and
// infinity where the other is not the same.
template <class T>
void expect_close(const std::vector<T>& found, const std::vector<T>& expected, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  double largest = 0.0;
  for (const T value : expected) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(static_cast<double>(value)));
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference =
        std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    ASSERT_TRUE(found[i] == expected[i] || difference <= tolerance * largest)
        << what << "[" << i << "]: " << found[i] << ", expected " << expected[i];
  }
}

}  // namespace witan::test
