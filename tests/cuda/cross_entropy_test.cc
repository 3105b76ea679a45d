// Cross-entropy on CUDA against its CPU twin.
#include "core/ops/cross_entropy.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/cuda/cuda_case.h"
#include "tests/support/tolerance.h"

namespace witan::test {
namespace {

template <class T>
class CrossEntropyCuda : public CudaTest {
 protected:
  static constexpr double kTolerance =
      std::is_same_v<T, float> ? kFloat32RowTolerance : kDoubleSumTolerance;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CrossEntropyCuda, Types);

std::vector<std::int32_t> targets_of(std::int64_t rows, std::int64_t vocab) {
  std::vector<std::int32_t> targets(static_cast<std::size_t>(rows));
  for (std::size_t r = 0; r < targets.size(); ++r) {
    targets[r] =
        r % 4 == 2 ? -1 : static_cast<std::int32_t>(r * 31 % static_cast<std::size_t>(vocab));
  }
  return targets;
}

TYPED_TEST(CrossEntropyCuda, EqualsTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Shape& shape : {Shape{0, 7}, {1, 1}, {5, 31}, {3, 64}, {6, 513}, {3, 5000}}) {
    SCOPED_TRACE(shape.to_string());
    const Shape rows{shape[0]};
    const auto targets = targets_of(shape[0], shape[1]);
    auto logits = normal_values<T>(shape.size(), "logits");
    for (T& z : logits) z *= 20;  // far from uniform
    std::vector<T> loss(targets.size());
    std::vector<T> dlogits(logits.size());
    ops::cross_entropy({}, view_of(logits.data(), shape), view_of(targets.data(), rows),
                       view_of(loss.data(), rows), view_of(dlogits.data(), shape));
    std::vector<T> first;
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const Tensor logits_cuda = on_cuda(ctx, logits, shape);
      const Tensor targets_cuda = on_cuda(ctx, targets, rows);
      const Tensor loss_cuda(rows, dtype_of<T>::value, kCuda);
      const Tensor alone_cuda(rows, dtype_of<T>::value, kCuda);
      ops::cross_entropy(ctx, logits_cuda, targets_cuda, alone_cuda, {});
      ops::cross_entropy(ctx, logits_cuda, targets_cuda, loss_cuda, logits_cuda);
      const auto found = to_host<T>(ctx, logits_cuda);
      expect_close(found, dlogits, this->kTolerance, "dlogits");
      expect_close(to_host<T>(ctx, loss_cuda), loss, this->kTolerance, "loss");
      EXPECT_EQ(to_host<T>(ctx, alone_cuda), to_host<T>(ctx, loss_cuda)) << "without dlogits";
      if (order == 0) first = found;
      EXPECT_EQ(found, first) << "other bits in another order of the threads";
    }
  }
}

// Logits of minus infinity (masked entries) have probability 0.
TYPED_TEST(CrossEntropyCuda, MinusInfinityCountsForNothing) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  std::vector<T> logits(100, -std::numeric_limits<T>::infinity());
  logits[7] = 2;
  logits[60] = 2;
  const Tensor logits_cuda = on_cuda(ctx, logits, {1, 100});
  const Tensor loss(Shape{1}, dtype_of<T>::value, kCuda);
  ops::cross_entropy(ctx, logits_cuda, on_cuda(ctx, std::vector<std::int32_t>{7}, {1}), loss,
                     logits_cuda);
  std::vector<T> expected(100, 0);
  expected[7] = static_cast<T>(-0.5);
  expected[60] = static_cast<T>(0.5);
  expect_close(to_host<T>(ctx, logits_cuda), expected, this->kTolerance, "dlogits");
  expect_close(to_host<T>(ctx, loss), {static_cast<T>(std::log(2.0))}, this->kTolerance, "loss");
}

}  // namespace
}  // namespace witan::test
