// The gate of rows on CUDA against its CPU twin.
#include "core/ops/sigmoid_gate.h"

#include <gtest/gtest.h>

#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

template <class T>
class SigmoidGateCuda : public CudaTest {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SigmoidGateCuda, Types);

TYPED_TEST(SigmoidGateCuda, EqualsTheCpuTwin) {
  using T = TypeParam;
  const double tolerance = std::is_same_v<T, float> ? 1e-6 : 1e-14;
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 7}, Shape{5, 33}, Shape{2, 300}, Shape{0, 4}}) {
    SCOPED_TRACE(shape.to_string());
    const Shape rows{shape[0]};
    const auto x = normal_values<T>(shape.size(), "x");
    const auto z = normal_values<T>(rows.size(), "z");
    const auto dy = normal_values<T>(shape.size(), "dy");
    std::vector<T> gate = z, y(x.size()), dx = x, dz(z.size());
    ops::sigmoid_gate({}, view_of(x.data(), shape), view_of(gate.data(), rows),
                      view_of(y.data(), shape));
    ops::sigmoid_gate_backward({}, view_of(dy.data(), shape), view_of(gate.data(), rows),
                               view_of(dx.data(), shape), view_of(dz.data(), rows));
    for (int order = 0; order < kOrders; ++order) {
      this->choose_order(order);
      const Tensor x_cuda = on_cuda(ctx, x, shape);
      const Tensor gate_cuda = on_cuda(ctx, z, rows);
      const Tensor y_cuda(shape, dtype_of<T>::value, kCuda);
      const Tensor dz_cuda(rows, dtype_of<T>::value, kCuda);
      ops::sigmoid_gate(ctx, x_cuda, gate_cuda, y_cuda);
      ops::sigmoid_gate_backward(ctx, on_cuda(ctx, dy, shape), gate_cuda, x_cuda, dz_cuda);
      expect_close(to_host<T>(ctx, gate_cuda), gate, tolerance, "gate");
      expect_close(to_host<T>(ctx, y_cuda), y, tolerance, "y");
      expect_close(to_host<T>(ctx, x_cuda), dx, tolerance, "dx");
      expect_close(to_host<T>(ctx, dz_cuda), dz, tolerance, "dz");
    }
  }
}

}  // namespace
}  // namespace witan::test
