// Tests of the tests: what must not happen while a stream is captured, and graphs that have become
// wrong.
#include <gtest/gtest.h>

#include "core/base/cuda/stream_cuda.h"
#include "core/base/graph_segment.h"
#include "core/ops/elementwise.h"
#include "tests/cuda/cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

class GraphOnCpuFaults : public CudaTest {
 protected:
  const Context& ctx() const { return stream_.context(); }
  static Tensor vector() { return Tensor({33}, DType::kFloat32, kCuda); }
  void expect_fault(const std::string& text) {
    const std::vector<std::string> faults = cuda_on_cpu::take_faults();
    ASSERT_FALSE(faults.empty()) << text;
    EXPECT_NE(faults[0].find(text), std::string::npos) << faults[0];
  }
  // Captures what `work` does, which ends with a fault.
  template <class Work>
  void expect_refused(const std::string& text, const Work& work) {
    cuda::capture_begin(ctx().stream);
    EXPECT_THROW(work(), Error);
    cuda::capture_abandon(ctx().stream);
    expect_fault(text);
  }

 private:
  DeviceStream stream_{kCuda};
};

TEST_F(GraphOnCpuFaults, WaitingWhileAStreamIsCaptured) {
  DeviceEvent event(kCuda);
  const Tensor x = vector();
  ops::fill(ctx(), x, 1.0);
  std::vector<float> host(33);
  expect_refused("a wait for a stream while a stream is captured", [&] { synchronize(ctx()); });
  expect_refused("an event while a stream is captured", [&] { event.record(ctx()); });
  expect_refused("a copy of pageable host memory while a stream is captured",
                 [&] { transfer(ctx(), x, view_of(host.data(), {33})); });
}

TEST_F(GraphOnCpuFaults, TakingMemoryWhileAStreamIsCaptured) {
  expect_refused("cudaMalloc while a stream is captured", [] { (void)vector(); });
}

TEST_F(GraphOnCpuFaults, WhatIsCapturedDoesNotRun) {
  const Tensor x = vector();
  ops::fill(ctx(), x, 1.0);
  cuda::capture_begin(ctx().stream);
  ops::fill(ctx(), x, 2.0);
  void* graph = cuda::capture_end(ctx().stream);
  EXPECT_EQ(to_host<float>(ctx(), x)[0], 1.0F);
  cuda::graph_launch(graph, ctx().stream);
  cuda::graph_destroy(graph);  // in flight
  EXPECT_EQ(to_host<float>(ctx(), x)[0], 2.0F);
}

// A key that leaves out an address: the graph writes to where the tensor was.
TEST_F(GraphOnCpuFaults, AnAddressThatTheKeyLeavesOut) {
  GraphSegment segment;
  const auto fill = [&](const Tensor& x, double value) {
    segment.run(ctx(), GraphKey(), [&] { ops::fill(ctx(), x, value); });
  };
  Tensor x = vector();
  for (int i = 0; i < 3; ++i) fill(x, 1.0);
  {
    const Tensor moved = vector();
    ops::fill(ctx(), moved, 5.0);
    fill(moved, 1.0);
    EXPECT_EQ(to_host<float>(ctx(), moved)[0], 5.0F) << "a wrong result";
  }
  const Tensor other = vector();
  x = Tensor();
  EXPECT_THROW(fill(other, 1.0), Error);
  expect_fault("of a kernel points to device memory that is not allocated");
}

}  // namespace
}  // namespace witan::test
