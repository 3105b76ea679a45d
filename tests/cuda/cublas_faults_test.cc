// Tests of the tests: what the stand-in for cuBLAS promises to refuse, it refuses.
#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/tensor/cuda_scratch.h"
#include "tests/cuda/cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"
#include "tests/support/cuda_on_cpu/cublas_v2.h"

namespace witan::test {
namespace {

class CublasOnCpuFaults : public CudaTest {
 protected:
  void TearDown() override {
    witan::cuda::release_scratch(ctx());
    CudaTest::TearDown();
  }

  static Tensor matrix(std::int64_t rows, std::int64_t columns) {
    return Tensor({rows, columns}, DType::kFloat32, kCuda);
  }
  // y = x w^T is refused with cuBLAS's own word for it, and `text` says what was found.
  void expect_refused(const TensorView& x, const TensorView& w, const TensorView& y,
                      const std::string& text) {
    try {
      ops::gemm_nt(ctx(), x, w, y);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("CUBLAS_STATUS_INVALID_VALUE"), std::string::npos) << what;
      EXPECT_NE(what.find("product of m 3, n 2, k 4"), std::string::npos) << what;
    }
    const std::vector<std::string> faults = cuda_on_cpu::take_faults();
    ASSERT_EQ(faults.size(), 1u);
    EXPECT_NE(faults[0].find(text), std::string::npos) << faults[0];
  }
  const Context& ctx() const { return stream_.context(); }

 private:
  DeviceStream stream_{kCuda};
};

TEST_F(CublasOnCpuFaults, AMatrixInHostMemoryIsRefused) {
  const Tensor x = matrix(3, 4);
  const Tensor y = matrix(3, 2);
  std::vector<float> host(8);
  TensorView w = view_of(host.data(), {2, 4});
  w.device = kCuda;
  // Row-major w is what cuBLAS calls A.
  expect_refused(x, w, y, "cuBLAS: matrix A does not lie inside one device allocation");
}

TEST_F(CublasOnCpuFaults, AMatrixThatLeavesItsAllocationIsRefused) {
  const Tensor x = matrix(3, 4);
  const Tensor w = matrix(2, 4);
  const Tensor small = matrix(1, 5);
  TensorView y = small;
  y.shape = Shape{3, 2};
  expect_refused(x, w, y, "cuBLAS: matrix C does not lie inside one device allocation");
}

TEST_F(CublasOnCpuFaults, AGroupedCallWithTypesThatCublasDoesNotTakeIsRefused) {
  cublasHandle_t handle = nullptr;
  ASSERT_EQ(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
  const Tensor table({3}, DType::kInt64, kCuda);
  auto** addresses = static_cast<void**>(table.view().data);
  const cublasOperation_t plain = CUBLAS_OP_N;
  const int one = 1;
  const float unit = 1.0F;
  EXPECT_EQ(
      cublasGemmGroupedBatchedEx(handle, &plain, &plain, &one, &one, &one, &unit, addresses,
                                 CUDA_R_16BF, &one, addresses + 1, CUDA_R_16BF, &one, &unit,
                                 addresses + 2, CUDA_R_32F, &one, 1, &one, CUBLAS_COMPUTE_32F),
      CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
}

// A product that reads what another stream writes, without an event between them.
TEST_F(CublasOnCpuFaults, AMissingEventShowsInSomeOrder) {
  const DeviceStream other(kCuda);
  DeviceEvent written(kCuda);
  int wrong = 0;
  for (int order = 0; order < 20; ++order) {
    for (const bool waits : {true, false}) {
      choose_order(order);
      const Tensor x = matrix(3, 4);
      const Tensor w = matrix(2, 4);
      const Tensor y = matrix(3, 2);
      ops::fill(ctx(), w, 1.0);
      ops::fill(other.context(), x, 1.0);
      written.record(other.context());
      if (waits) written.make_wait(ctx());
      ops::gemm_nt(ctx(), x, w, y);
      const bool right = to_host<float>(ctx(), y) == std::vector<float>(6, 4.0F);
      EXPECT_TRUE(right || !waits);
      if (!right) ++wrong;
    }
  }
  EXPECT_GT(wrong, 0);
}

}  // namespace
}  // namespace witan::test
