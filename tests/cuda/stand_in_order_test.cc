// What the stand-in executes, and the freedom it takes in the order of it.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/cuda/cuda_case.h"
#include "tests/cuda/faulty_kernels.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

class CudaOnCpuOrder : public CudaTest {};

TEST_F(CudaOnCpuOrder, EveryThreadOfAThreeDimensionalGridRunsOnce) {
  const DeviceStream stream(kCuda);
  const std::int64_t threads = 2 * 3 * 4 * (3 * 4 * 5);
  const Tensor out = on_cuda(stream.context(), std::vector<float>(threads), {threads});
  count_threads(stream.context(), 2, 3, out.as<float>());
  EXPECT_EQ(to_host<float>(stream.context(), out), std::vector<float>(threads, 1.0f));
}

TEST_F(CudaOnCpuOrder, ShufflesMoveValuesBetweenLanes) {
  const DeviceStream stream(kCuda);
  for (int order = 0; order < kOrders; ++order) {
    choose_order(order);
    const Tensor out(Shape{64, 3}, DType::kFloat32, kCuda);
    all_shuffles(stream.context(), out.as<float>());
    const auto values = to_host<float>(stream.context(), out);
    for (int thread = 0; thread < 64; ++thread) {
      const int lane = thread % 32;
      const auto* row = &values[static_cast<std::size_t>(thread) * 3];
      EXPECT_EQ(row[0], static_cast<float>(thread - lane + 5));
      EXPECT_EQ(row[1], static_cast<float>(thread ^ 1));
      EXPECT_EQ(row[2], static_cast<float>(lane + 7 < 32 ? thread + 7 : thread));
    }
  }
}

// Without the event, some order runs the reader first.
TEST_F(CudaOnCpuOrder, AMissingEventShowsInSomeOrder) {
  const DeviceStream writer(kCuda);
  const DeviceStream reader(kCuda);
  const std::vector<float> ones(16, 1.0f);
  for (const bool with_event : {true, false}) {
    int wrong = 0;
    for (int order = 0; order < 20; ++order) {
      choose_order(order);
      DeviceEvent written(kCuda);
      const Tensor a(Shape{16}, DType::kFloat32, kCuda);
      const Tensor b(Shape{16}, DType::kFloat32, kCuda);
      transfer(writer.context(), view_of(ones.data(), {16}), a);
      written.record(writer.context());
      if (with_event) written.make_wait(reader.context());
      copy_shifted(reader.context(), a.as<float>(), 16, 0, b.as<float>());
      wrong += to_host<float>(reader.context(), b) != ones;
    }
    EXPECT_EQ(wrong > 0, !with_event) << wrong << " of 20 orders";
  }
}

TEST_F(CudaOnCpuOrder, AMachineWithoutADriverIsAUserError) {
  cuda_on_cpu::set_device_count(0);
  EXPECT_THROW(DeviceStream{kCuda}, UserError);
  EXPECT_THROW(Tensor({4}, DType::kFloat32, kCuda), UserError);
  const auto expect_reason = [](const std::string& reason) {
    try {
      const DeviceStream stream(kCuda);
      ADD_FAILURE() << "no error";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  };
  expect_reason("no NVIDIA driver was found");
  cuda_on_cpu::set_device_count(0, 12040);
  expect_reason("its NVIDIA driver is for CUDA 12.4 at most, older than the CUDA runtime 13.0");
  cuda_on_cpu::set_device_count(0, 99000);
  expect_reason("its NVIDIA driver s");  // shows none, or sees none
  cuda_on_cpu::set_device_count(1);
}

TEST_F(CudaOnCpuOrder, OutOfMemoryNamesTheSizes) {
  try {
    const Tensor huge(Shape{std::int64_t{1} << 40}, DType::kFloat32, kCuda);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("4398046511104 bytes asked for on CUDA device 0"),
              std::string::npos)
        << error.what();
  }
}

TEST_F(CudaOnCpuOrder, FreedMemoryIsUsedAgain) {
  for (int i = 0; i < 20; ++i) const Tensor block(Shape{1 << 22}, DType::kFloat32, kCuda);
  const Tensor a(Shape{100}, DType::kFloat32, kCuda);
  const Tensor b(Shape{1000}, DType::kFloat32, kCuda);
  EXPECT_NE(a.as<float>(), b.as<float>());
}

}  // namespace
}  // namespace witan::test
