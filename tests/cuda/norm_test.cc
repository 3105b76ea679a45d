// RMSNorm and LayerNorm on CUDA against their CPU twins.
#include "core/ops/norm.h"

#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class RmsnormCuda : public CudaTest {
 protected:
  // Both twins sum in double and round the same few products to T; those are the differences left.
  // The CPU adds the rows' shares of dw in T, so their rounding errors add up.
  static constexpr double kTolerance = std::is_same_v<T, float> ? 1e-6 : 1e-14;
  static constexpr double kToleranceDw = std::is_same_v<T, float> ? 1e-5 : 1e-13;
  static constexpr double kEps = 1e-5;

  static std::vector<Shape> shapes() {
    return {{0, 8},  {1, 1},    {3, 5},    {7, 33},   {2, 1025},
            {5, 96}, {129, 31}, {128, 32}, {260, 65}, {4, 1024}};
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RmsnormCuda, Types);

TYPED_TEST(RmsnormCuda, ForwardEqualsTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Shape& shape : this->shapes()) {
    SCOPED_TRACE(shape.to_string());
    const auto x = normal_values<T>(shape.size(), "x");
    const auto w = normal_values<T>(shape[1], "w");
    std::vector<T> y(x.size());
    std::vector<T> rstd(static_cast<std::size_t>(shape[0]));
    ops::rmsnorm(Context{}, view_of(x.data(), shape), view_of(w.data(), {shape[1]}), this->kEps,
                 view_of(y.data(), shape), view_of(rstd.data(), {shape[0]}));

    std::vector<T> first_y;
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const Tensor x_cuda = on_cuda(ctx, x, shape);
      const Tensor w_cuda = on_cuda(ctx, w, {shape[1]});
      const Tensor y_cuda(shape, dtype_of<T>::value, kCuda);
      const Tensor rstd_cuda({shape[0]}, dtype_of<T>::value, kCuda);
      ops::rmsnorm(ctx, x_cuda, w_cuda, this->kEps, y_cuda, rstd_cuda);
      const auto found = to_host<T>(ctx, y_cuda);
      expect_close(found, y, this->kTolerance, "y");
      expect_close(to_host<T>(ctx, rstd_cuda), rstd, this->kTolerance, "rstd");
      if (order == 0) first_y = found;
      EXPECT_EQ(found, first_y) << "other bits in another order of the threads";
    }
  }
}

TYPED_TEST(RmsnormCuda, BackwardEqualsTheCpuTwin) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Shape& shape : this->shapes()) {
    for (const ops::Accumulate accumulate : {ops::Accumulate::kNo, ops::Accumulate::kYes}) {
      SCOPED_TRACE(shape.to_string() +
                   (accumulate == ops::Accumulate::kYes ? ", dx accumulates" : ""));
      const Shape rows{shape[0]};
      const Shape cols{shape[1]};
      const auto x = normal_values<T>(shape.size(), "x");
      const auto dy = normal_values<T>(shape.size(), "dy");
      const auto w = normal_values<T>(shape[1], "w");
      const auto dx_before = normal_values<T>(shape.size(), "dx");
      const auto dw_before = normal_values<T>(shape[1], "dw");
      std::vector<T> y(x.size());
      std::vector<T> rstd(static_cast<std::size_t>(shape[0]));
      std::vector<T> dx = dx_before;
      std::vector<T> dw = dw_before;
      ops::rmsnorm(Context{}, view_of(x.data(), shape), view_of(w.data(), cols), this->kEps,
                   view_of(y.data(), shape), view_of(rstd.data(), rows));
      ops::rmsnorm_backward(Context{}, view_of(dy.data(), shape), view_of(x.data(), shape),
                            view_of(w.data(), cols), view_of(rstd.data(), rows),
                            view_of(dx.data(), shape), accumulate, view_of(dw.data(), cols));

      std::vector<T> first_dx;
      std::vector<T> first_dw;
      for (int order = 0; order < kOrders; ++order) {
        this->choose_order(order);
        const Tensor dx_cuda = on_cuda(ctx, dx_before, shape);
        const Tensor dw_cuda = on_cuda(ctx, dw_before, cols);
        ops::rmsnorm_backward(ctx, on_cuda(ctx, dy, shape), on_cuda(ctx, x, shape),
                              on_cuda(ctx, w, cols), on_cuda(ctx, rstd, rows), dx_cuda, accumulate,
                              dw_cuda);
        const auto found_dx = to_host<T>(ctx, dx_cuda);
        const auto found_dw = to_host<T>(ctx, dw_cuda);
        expect_close(found_dx, dx, this->kTolerance * 4, "dx");
        expect_close(found_dw, dw, this->kToleranceDw, "dw");
        if (order == 0) {
          first_dx = found_dx;
          first_dw = found_dw;
        }
        EXPECT_EQ(found_dx, first_dx) << "other bits in another order of the threads";
        EXPECT_EQ(found_dw, first_dw) << "other bits in another order of the threads";
      }
    }
  }
  witan::cuda::release_scratch(ctx);
}

TYPED_TEST(RmsnormCuda, LayerNormEqualsTheCpuTwin) {
  using T = TypeParam;
  for (const Shape& shape : this->shapes()) {
    if (shape[1] == 1) continue;  // its dx is 0, and what the CPU finds is its rounding error
    for (const ops::Accumulate accumulate : {ops::Accumulate::kNo, ops::Accumulate::kYes}) {
      SCOPED_TRACE(shape.to_string());
      const Shape rows{shape[0]};
      const Shape cols{shape[1]};
      std::vector<Tensor> tensors;
      tensors.push_back(normal<T>("x", shape));
      tensors.push_back(normal<T>("w", cols));
      tensors.push_back(normal<T>("b", cols));
      tensors.push_back(unwritten(shape, dtype_of<T>::value));
      tensors.push_back(unwritten(rows, dtype_of<T>::value));
      tensors.push_back(unwritten(rows, dtype_of<T>::value));
      tensors.push_back(normal<T>("dy", shape));
      tensors.push_back(normal<T>("dx", shape));
      tensors.push_back(normal<T>("dw", cols));
      tensors.push_back(normal<T>("db", cols));
      this->expect_twins(tensors, this->kToleranceDw,
                         [&](const Context& ctx, const std::vector<TensorView>& t) {
                           ops::layernorm(ctx, t[0], t[1], t[2], this->kEps, t[3], t[4], t[5]);
                           ops::layernorm_backward(ctx, t[6], t[0], t[1], t[4], t[5], t[7],
                                                   accumulate, t[8], t[9]);
                         });
    }
  }
}

// One pass over the residual stream: the bits of a sum and its norm.
TYPED_TEST(RmsnormCuda, ASumAndItsNormInOnePass) {
  using T = TypeParam;
  for (const Shape& shape : this->shapes()) {
    SCOPED_TRACE(shape.to_string());
    const DType type = dtype_of<T>::value;
    const Shape rows{shape[0]};
    for (const bool layer : {false, true}) {
      if (layer && shape[1] == 1) continue;  // as above
      std::vector<Tensor> tensors;
      tensors.push_back(normal<T>("a", shape));
      tensors.push_back(normal<T>("b", shape));
      tensors.push_back(normal<T>("w", {shape[1]}));
      tensors.push_back(normal<T>("bias", {shape[1]}));
      for (int i = 0; i < 3; ++i) tensors.push_back(unwritten(shape, type));  // y, sum, y again
      for (int i = 0; i < 2; ++i) tensors.push_back(unwritten(rows, type));   // mean, rstd
      this->expect_twins(
          tensors, this->kToleranceDw, [&](const Context& ctx, const std::vector<TensorView>& t) {
            ops::add(ctx, t[0], t[1], t[5]);
            if (layer) {
              ops::layernorm(ctx, t[5], t[2], t[3], this->kEps, t[6], t[7], t[8]);
              ops::add_layernorm(ctx, t[0], t[1], t[2], t[3], this->kEps, t[1], t[4], t[7], t[8]);
            } else {
              ops::fill(ctx, t[7], 0.0);
              ops::rmsnorm(ctx, t[5], t[2], this->kEps, t[6], t[8]);
              ops::add_rmsnorm(ctx, t[0], t[1], t[2], this->kEps, t[1], t[4], t[8]);
            }
            EXPECT_EQ(to_host<T>(ctx, t[4]), to_host<T>(ctx, t[6]));
            EXPECT_EQ(to_host<T>(ctx, t[1]), to_host<T>(ctx, t[5]));
          });
    }
  }
}

TYPED_TEST(RmsnormCuda, SteadyStepsAllocateNothing) {
  using T = TypeParam;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  const Shape shape{300, 40};
  const Tensor x = on_cuda(ctx, normal_values<T>(shape.size(), "x"), shape);
  const Tensor w = on_cuda(ctx, normal_values<T>(40, "w"), {40});
  const Tensor y(shape, dtype_of<T>::value, kCuda);
  const Tensor dx(shape, dtype_of<T>::value, kCuda);
  const Tensor dw = on_cuda(ctx, normal_values<T>(40, "dw"), {40});
  const Tensor rstd({300}, dtype_of<T>::value, kCuda);
  std::int64_t after_first = 0;
  for (int step = 0; step < 3; ++step) {
    ops::rmsnorm(ctx, x, w, this->kEps, y, rstd);
    ops::rmsnorm_backward(ctx, y, x, w, rstd, dx, ops::Accumulate::kNo, dw);
    if (step == 0) after_first = allocation_stats(DeviceType::kCuda).allocations;
  }
  EXPECT_EQ(allocation_stats(DeviceType::kCuda).allocations, after_first);
  witan::cuda::release_scratch(ctx);
}

}  // namespace
}  // namespace witan::test
