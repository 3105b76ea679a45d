// Tests of the tests: every mistake that the stand-in promises to find, it finds, and the same code
// without the mistake passes.
#include <gtest/gtest.h>

#include "core/base/cuda/launch.h"
#include "core/tensor/arena.h"
#include "tests/cuda/cuda_case.h"
#include "tests/cuda/faulty_kernels.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class CudaOnCpuFaults : public CudaTest {
 protected:
  // One fault whose text contains `text`, found when the stream is waited for.
  void expect_fault(const char* text) {
    EXPECT_THROW(synchronize(ctx()), Error);
    const std::vector<std::string> faults = cuda_on_cpu::take_faults();
    ASSERT_EQ(faults.size(), 1u);
    EXPECT_PRED2(contains, faults[0], text);
    synchronize(ctx());  // the device can be used again
  }
  const Context& ctx() const { return stream_.context(); }

 private:
  DeviceStream stream_{kCuda};
};

constexpr int kBlocks = 3;
constexpr int kThreads = 96;

std::vector<float> ones(std::int64_t size) {
  return std::vector<float>(static_cast<std::size_t>(size), 1.0f);
}

TEST_F(CudaOnCpuFaults, AMissingBarrierShowsInEveryOrder) {
  const Tensor in = on_cuda(ctx(), ones(kBlocks * kThreads), {kBlocks * kThreads});
  const Tensor out({kBlocks}, DType::kFloat32, kCuda);
  const std::vector<float> right(kBlocks, float{kThreads});
  for (int order = 0; order < 20; ++order) {
    choose_order(order);
    block_sums(ctx(), Barrier::kPresent, in.as<float>(), kBlocks, kThreads, out.as<float>());
    EXPECT_EQ(to_host<float>(ctx(), out), right);
    block_sums(ctx(), Barrier::kMissing, in.as<float>(), kBlocks, kThreads, out.as<float>());
    EXPECT_NE(to_host<float>(ctx(), out), right);
    block_sums_dynamic(ctx(), in.as<float>(), kBlocks, kThreads, out.as<float>());
    EXPECT_EQ(to_host<float>(ctx(), out), right);
  }
}

TEST_F(CudaOnCpuFaults, AWritePastATensorIsFound) {
  const Tensor a = on_cuda(ctx(), ones(33), {33});
  const Tensor b = on_cuda(ctx(), ones(33), {33});
  write_shifted(ctx(), a.as<float>(), 33, 0, b.as<float>());
  synchronize(ctx());
  write_shifted(ctx(), a.as<float>(), 33, 1, b.as<float>());
  expect_fault("a write 0 bytes past the end of an allocation of 132 bytes");
  write_shifted(ctx(), a.as<float>(), 33, -1, b.as<float>());
  expect_fault("a write 4 bytes before the beginning of an allocation of 132 bytes");
}

TEST_F(CudaOnCpuFaults, AReadPastATensorIsNotANumber) {
  const Tensor a = on_cuda(ctx(), ones(33), {33});
  const Tensor b(Shape{33}, DType::kFloat32, kCuda);
  copy_shifted(ctx(), a.as<float>(), 33, 1, b.as<float>());
  EXPECT_TRUE(std::isnan(to_host<float>(ctx(), b)[32]));
}

TEST_F(CudaOnCpuFaults, FreshMemoryIsNotANumber) {
  const Tensor fresh(Shape{9}, DType::kFloat32, kCuda);
  for (const float value : to_host<float>(ctx(), fresh)) EXPECT_TRUE(std::isnan(value));
  const Tensor fresh_double(Shape{9}, DType::kFloat64, kCuda);
  for (const double value : to_host<double>(ctx(), fresh_double)) EXPECT_TRUE(std::isnan(value));
  const Tensor fresh_index(Shape{9}, DType::kInt32, kCuda);
  for (const auto value : to_host<std::int32_t>(ctx(), fresh_index)) EXPECT_LT(value, 0);
}

TEST_F(CudaOnCpuFaults, SharedMemoryIsFreshInEveryBlock) {
  const Tensor out = on_cuda(ctx(), ones(4), {4});
  launch_with(ctx(), 1, 1, 64, out.as<float>());
  read_fresh_shared(ctx(), out.as<float>());
  EXPECT_TRUE(std::isnan(to_host<float>(ctx(), out)[0]));
}

TEST_F(CudaOnCpuFaults, MisuseOfSharedMemoryIsFound) {
  const Tensor out(Shape{4}, DType::kFloat32, kCuda);
  write_past_shared(ctx(), out.as<float>());
  expect_fault("a write past a variable in shared memory");
  take_too_much_shared(ctx(), out.as<float>());
  expect_fault("more than 48 KiB of shared memory");
}

TEST_F(CudaOnCpuFaults, AMissingWaitForACopyShows) {
  const Tensor in = on_cuda(ctx(), ones(32), {32});
  const Tensor out(Shape{32}, DType::kFloat32, kCuda);
  copy_through_shared(ctx(), Wait::kPresent, 0, in.as<float>(), out.as<float>());
  EXPECT_EQ(to_host<float>(ctx(), out), ones(32));
  copy_through_shared(ctx(), Wait::kMissing, 0, in.as<float>(), out.as<float>());
  for (const float value : to_host<float>(ctx(), out)) EXPECT_TRUE(std::isnan(value));
}

TEST_F(CudaOnCpuFaults, AsynchronousCopiesFromWrongAddressesAreFound) {
  const Tensor in = on_cuda(ctx(), ones(32), {32});
  const Tensor out(Shape{32}, DType::kFloat32, kCuda);
  copy_through_shared(ctx(), Wait::kPresent, 1, in.as<float>(), out.as<float>());
  expect_fault("from or to an address that is no multiple of them");
  copy_through_shared(ctx(), Wait::kPresent, 4, in.as<float>(), out.as<float>());
  expect_fault("reads outside of every allocation");
}

TEST_F(CudaOnCpuFaults, AHostPointerIsRefused) {
  std::vector<float> host(33);
  const Tensor out(Shape{33}, DType::kFloat32, kCuda);
  EXPECT_THROW(copy_shifted(ctx(), host.data(), 33, 0, out.as<float>()), Error);
  expect_fault("argument 0 of a kernel points to host memory");
  float* freed = Tensor(Shape{33}, DType::kFloat32, kCuda).as<float>();
  EXPECT_THROW(copy_shifted(ctx(), out.as<float>(), 33, 0, freed), Error);
  expect_fault("argument 3 of a kernel points to device memory that is not allocated");
}

TEST_F(CudaOnCpuFaults, ACopyThatLeavesItsAllocationIsRefused) {
  const Tensor small(Shape{4}, DType::kFloat32, kCuda);
  TensorView large = small;
  large.shape = Shape{100};
  std::vector<float> host(100);
  EXPECT_THROW(transfer(ctx(), view_of(host.data(), {100}), large), Error);
  expect_fault("a copy of 400 bytes leaves its allocation");
}

TEST_F(CudaOnCpuFaults, DivergentBarriersAreFound) {
  const Tensor out(Shape{4}, DType::kFloat32, kCuda);
  barrier_after_exit(ctx(), out.as<float>());
  expect_fault("divergent barrier: 32 of 64 threads wait at faulty_kernels.cu:");
  two_barriers(ctx(), out.as<float>());
  expect_fault("divergent barrier: threads of one block wait at faulty_kernels.cu:");
}

TEST_F(CudaOnCpuFaults, WarpOperationsWithMissingLanesAreFound) {
  const Tensor out(Shape{32}, DType::kFloat32, kCuda);
  shuffle_of_even_lanes(ctx(), out.as<float>());
  expect_fault("waits for lanes of its mask that never come");
  shuffle_after_exit(ctx(), out.as<float>());
  EXPECT_THROW(synchronize(ctx()), Error);
  // Which of the two depends on the order: lane 0 left before or after the others had arrived.
  const auto faults = cuda_on_cpu::take_faults();
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_TRUE(contains(faults[0], "names lane 0, which does not exist or has ended") ||
              contains(faults[0], "waits for lanes of its mask that never come"))
      << faults[0];
}

TEST_F(CudaOnCpuFaults, LaunchesThatAGpuRefusesAreRefused) {
  const Tensor out(Shape{4}, DType::kFloat32, kCuda);
  EXPECT_THROW(launch_with(ctx(), 0, 32, 0, out.as<float>()), Error);
  expect_fault("launch refused: it is empty");
  EXPECT_THROW(launch_with(ctx(), 1, 1025, 0, out.as<float>()), Error);
  expect_fault("launch refused: more than 1024 threads in a block");
  EXPECT_THROW(launch_with(ctx(), 1, 32, (163 << 10) + 1, out.as<float>()), Error);
  expect_fault("launch refused: a block has at most 163 KiB of shared memory");
}

TEST_F(CudaOnCpuFaults, AnErrorNamesWhatWasFound) {
  const Tensor out(Shape{4}, DType::kFloat32, kCuda);
  barrier_after_exit(ctx(), out.as<float>());
  try {
    synchronize(ctx());
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_PRED2(contains, error.what(), "cudaErrorLaunchFailure (kernel launch");
    EXPECT_PRED2(contains, error.what(), "divergent barrier");
  }
  EXPECT_EQ(cuda_on_cpu::take_faults().size(), 1u);
}

TEST_F(CudaOnCpuFaults, AfterAFaultNothingRunsUntilItIsTaken) {
  const Tensor out = on_cuda(ctx(), std::vector<float>(4), {4});
  barrier_after_exit(ctx(), out.as<float>());
  launch_with(ctx(), 1, 1, 0, out.as<float>());
  expect_fault("divergent barrier");
  EXPECT_EQ(to_host<float>(ctx(), out)[0], 0.0f);
}

TEST_F(CudaOnCpuFaults, TheHostCannotTouchDeviceMemory) {
  const Tensor out(Shape{4}, DType::kFloat32, kCuda);
  EXPECT_DEATH(out.as<float>()[0] = 1.0f, "");
}

// Types of arguments are checked when the launch is compiled.
static_assert(is_kernel_argument<float*, const float*>);
static_assert(!is_kernel_argument<const float*, float*>);
static_assert(!is_kernel_argument<int, std::int64_t>);
static_assert(!is_kernel_argument<float*, double*>);

// Between two tensors of one arena.
TEST_F(CudaOnCpuFaults, AStepIntoTheNextTensorOfAnArenaIsFound) {
  cuda_on_cpu::set_arena_guards(true);
  {
    Arena arena(kCuda);
    const Tensor from = on_cuda(ctx(), ones(33), {33});
    const TensorView a = arena.allocate({33}, DType::kFloat32);
    arena.allocate({33}, DType::kFloat32);
    write_shifted(ctx(), from.as<float>(), 33, 0, a.as<float>());
    synchronize(ctx());
    write_shifted(ctx(), from.as<float>(), 33, 1, a.as<float>());
    expect_fault("a write 0 bytes past the end of an allocation of 132 bytes");
  }
  cuda_on_cpu::set_arena_guards(false);
}

TEST_F(CudaOnCpuFaults, WhatAnEarlierStepLeftInAnArenaIsNotANumber) {
  cuda_on_cpu::set_arena_guards(true);
  {
    Arena arena(kCuda);
    for (int step = 0; step < 2; ++step) {
      arena.reset();
      const TensorView x = arena.allocate({9}, DType::kFloat32);
      for (const float value : to_host<float>(ctx(), x)) EXPECT_TRUE(std::isnan(value)) << step;
      transfer(ctx(), view_of(ones(9).data(), {9}), x);
    }
  }
  cuda_on_cpu::set_arena_guards(false);
}

}  // namespace
}  // namespace witan::test
