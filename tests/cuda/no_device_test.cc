// A build with CUDA on a machine without a GPU (or with none visible): a clear answer, no crash.
// Run with CUDA_VISIBLE_DEVICES empty.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/base/cuda/stream_cuda.h"
#include "core/base/error.h"
#include "core/base/stream.h"
#include "core/ops/norm.h"
#include "core/tensor/tensor.h"

namespace witan::test {
namespace {

constexpr Device kCuda{DeviceType::kCuda, 0};

// Where there is a GPU, it is hidden before the first call of the runtime.
const bool kHidden = setenv("CUDA_VISIBLE_DEVICES", "", 1) == 0;

TEST(CudaNoDevice, CountsNone) {
  ASSERT_TRUE(kHidden);
  EXPECT_EQ(cuda::device_count(), 0);
}

TEST(CudaNoDevice, AskingForOneIsAUserErrorThatSaysWhatToDo) {
  const auto expect_user_error = [](auto&& ask) {
    try {
      ask();
      ADD_FAILURE() << "no error";
    } catch (const UserError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("device CUDA 0 was asked for"), std::string::npos) << text;
      EXPECT_NE(text.find("use the CPU backend or a machine with a GPU"), std::string::npos)
          << text;
    }
  };
  expect_user_error([] { const Tensor tensor({4}, DType::kFloat32, kCuda); });
  expect_user_error([] { const DeviceStream stream(kCuda); });
  expect_user_error([] { const DeviceEvent event(kCuda); });
  // A second time: the runtime's error does not stick to the calls after it.
  expect_user_error([] { const Tensor tensor({4}, DType::kFloat32, kCuda); });
}

TEST(CudaNoDevice, TheCpuBackendOfTheSameBuildWorks) {
  const std::vector<float> x{3.0f, 4.0f};
  const std::vector<float> w{1.0f, 2.0f};
  std::vector<float> y(2);
  std::vector<float> rstd(1);
  ops::rmsnorm(Context{}, view_of(x.data(), {1, 2}), view_of(w.data(), {2}), 0.0,
               view_of(y.data(), {1, 2}), view_of(rstd.data(), {1}));
  EXPECT_NEAR(y[0], 3.0 / std::sqrt(12.5), 1e-6);
  EXPECT_NEAR(y[1], 8.0 / std::sqrt(12.5), 1e-6);
}

}  // namespace
}  // namespace witan::test
