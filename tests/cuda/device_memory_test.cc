// Too little memory on a GPU: wherever it happens, the error says what the memory was for.
#include "core/tensor/device_memory.h"

#include <gtest/gtest.h>

#include "core/base/current_layer.h"
#include "core/tensor/arena.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/pinned_blocks.h"
#include "tests/cuda/cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

class SmallGpu : public CudaTest {
 protected:
  void SetUp() override { cuda_on_cpu::set_device_memory(8 * kMiB); }
  void TearDown() override {
    cuda_on_cpu::set_device_memory(256 * kMiB);
    cuda_on_cpu::set_pinned_memory(SIZE_MAX);
    CudaTest::TearDown();
  }
};

constexpr std::int64_t floats(std::size_t mebibytes) {
  return static_cast<std::int64_t>(mebibytes * kMiB / sizeof(float));
}

template <class Ask>
std::string message_of(Ask&& ask) {
  try {
    ask();
  } catch (const OutOfMemory& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST_F(SmallGpu, AnArenaNamesItselfTheLayerAndTheTensor) {
  Arena arena(kCuda, "activations");
  arena.allocate({floats(2)}, DType::kFloat32, "residual");
  const LayerScope layer(3);
  const std::string message =
      message_of([&] { arena.allocate({floats(7)}, DType::kFloat32, "experts' rows"); });
  EXPECT_EQ(message,
            "activations (layer 3, experts' rows): out of memory: 7340032 bytes asked for on CUDA "
            "device 0, 6291456 of 8388608 free, 2097152 held by this rank");
  // The device is as usable as before.
  EXPECT_NO_THROW(arena.allocate({floats(5)}, DType::kFloat32, "smaller"));
}

TEST_F(SmallGpu, AnArenaTakesLessAtOnceWhereMemoryIsNearlyFull) {
  Arena arena(kCuda, "activations");
  for (int i = 0; i < 7; ++i) arena.allocate({floats(1)}, DType::kFloat32, "x");
  EXPECT_EQ(arena.bytes_used(), 7 * kMiB);  // 1 + 1 + 2 + 4 MiB, had there been room
  arena.reset();                            // one block, without the usual slack
  EXPECT_LE(arena.bytes_reserved(), 8 * kMiB);
  for (int i = 0; i < 7; ++i) arena.allocate({floats(1)}, DType::kFloat32, "x");
}

TEST_F(SmallGpu, TheBudgetIsWhatIsFreeAndWhatThisRankHolds) {
  const Tensor held({floats(3)}, DType::kFloat32, kCuda, "weights");
  try {
    const Tensor more({floats(6)}, DType::kFloat32, kCuda, "gradients");
    ADD_FAILURE() << "no error";
  } catch (const OutOfDeviceMemory& error) {
    EXPECT_EQ(error.budget(), 8 * kMiB);
    EXPECT_EQ(std::string(error.what()).rfind("gradients: out of memory: 6291456 bytes", 0), 0u)
        << error.what();
  }
}

TEST_F(SmallGpu, ScratchOfKernels) {
  const DeviceStream stream(kCuda);
  cuda::scratch(stream.context(), kMiB);
  const std::string message = message_of([&] { cuda::scratch(stream.context(), 9 * kMiB); });
  EXPECT_EQ(message.rfind("scratch of kernels: out of memory: 9437184 bytes", 0), 0u) << message;
  EXPECT_NE(cuda::scratch(stream.context(), 2 * kMiB), nullptr);
  cuda::release_scratch(stream.context());
}

TEST_F(SmallGpu, PinnedMemoryOfTheHost) {
  cuda_on_cpu::set_pinned_memory(2 * kMiB);
  PinnedBlocks blocks;
  Arena arena(Device{}, "staging of collectives", &blocks);
  const std::string message =
      message_of([&] { arena.allocate({floats(3)}, DType::kFloat32, "rows"); });
  EXPECT_EQ(message.rfind("staging of collectives (rows): out of memory: 3145728 bytes of pinned "
                          "host memory",
                          0),
            0u)
      << message;
}

}  // namespace
}  // namespace witan::test
