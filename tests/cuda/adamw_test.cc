// The optimizer's ops on CUDA against their CPU twins: the update, and the sums that clipping
// needs.
#include "core/ops/adamw.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/ops/reduce.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class AdamWCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(AdamWCuda, Types);

TYPED_TEST(AdamWCuda, UpdateEqualsTheCpuTwin) {
  using T = TypeParam;
  const ops::AdamWStep step{1e-2, 0.9, 0.95, 1e-8, 0.1, 0.19, 0.0975, 0.7};
  for (const std::int64_t n : {0, 1, 7, 64, 1029}) {
    SCOPED_TRACE(n);
    std::vector<T> v = normal_values<T>(n, "v");
    for (T& value : v) value *= value;
    std::vector<Tensor> tensors;
    for (const char* name : {"w", "dw", "m"}) tensors.push_back(normal<T>(name, {n}));
    tensors.push_back(with_values(v, {n}));
    // A compiler may contract products and sums.
    this->expect_twins(tensors, std::is_same_v<T, float> ? 1e-6 : 1e-14,
                       [&](const Context& ctx, const std::vector<TensorView>& t) {
                         ops::adamw(ctx, step, t[0], t[1], t[2], t[3]);
                       });
  }
}

TYPED_TEST(AdamWCuda, SumsEqualTheCpuTwins) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const std::int64_t n : {0, 1, 3, 8192, 8195, 20001}) {
    SCOPED_TRACE(n);
    const auto x = normal_values<T>(n, "x");
    const TensorView host = view_of(x.data(), {n});
    const double sum = ops::sum(Context{}, host);
    const double squares = ops::sum_of_squares(Context{}, host);
    const Tensor device = on_cuda(ctx, x, {n});
    const double first = ops::sum_of_squares(ctx, device);
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      EXPECT_NEAR(ops::sum(ctx, device), sum, 1e-12 * squares);
      EXPECT_NEAR(ops::sum_of_squares(ctx, device), squares, 1e-12 * squares);
      EXPECT_EQ(ops::sum_of_squares(ctx, device), first) << "other bits in another order";
    }
  }
  auto x = normal_values<T>(100, "x");
  x[57] = std::numeric_limits<T>::quiet_NaN();
  EXPECT_TRUE(std::isnan(ops::sum_of_squares(ctx, on_cuda(ctx, x, {100}))));
  witan::cuda::release_scratch(ctx);
}

}  // namespace
}  // namespace witan::test
