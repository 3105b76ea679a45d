// Stretches of work launched as graphs: when they run, are captured, are launched, and that their
// results are those of the work itself.
#include "core/base/graph_segment.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "core/ops/elementwise.h"
#include "core/ops/gemm.h"
#include "core/tensor/cuda_scratch.h"
#include "core/tensor/graph_key.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

class GraphSegmentCuda : public CudaTest {
 protected:
  void TearDown() override {
    for (Tensor* tensor : {&x_, &w_, &y_}) *tensor = Tensor();
    witan::cuda::release_scratch(ctx_);
    CudaTest::TearDown();
  }

  // y = 2 (x w^T), with products in bfloat16: kernels, cuBLAS and scratch memory.
  void work(const TensorView& x) const {
    ops::gemm_nt(ctx_, x, w_, y_);
    ops::scale(ctx_, y_, 2.0);
  }
  GraphKey key_of(const TensorView& x) const {
    GraphKey key;
    add_to(key, ctx_);
    add_to(key, x);
    return key;
  }
  void run(GraphSegment& segment, const TensorView& x) const {
    segment.run(ctx_, key_of(x), [&] { work(x); });
  }
  std::vector<float> expected(const TensorView& x) const {
    work(x);
    return to_host<float>(ctx_, y_);
  }
  void expect_run(GraphSegment& segment, const TensorView& x) const {
    const std::vector<float> right = expected(x);
    ops::fill(ctx_, y_, -1.0);
    run(segment, x);
    EXPECT_EQ(to_host<float>(ctx_, y_), right);
  }
  static void expect_counts(const GraphSegment& segment, std::int64_t run, std::int64_t captured,
                            std::int64_t launched) {
    EXPECT_EQ(segment.counts().run, run);
    EXPECT_EQ(segment.counts().captured, captured);
    EXPECT_EQ(segment.counts().launched, launched);
  }
  Context bfloat16() const {
    Context ctx = stream_.context();
    ctx.products = Products::kBfloat16;
    return ctx;
  }

  DeviceStream stream_{kCuda};
  Context ctx_ = bfloat16();
  Tensor x_ = on_cuda(ctx_, normal_values<float>(6 * 8, "x"), {6, 8});
  Tensor w_ = on_cuda(ctx_, normal_values<float>(5 * 8, "w"), {5, 8});
  Tensor y_{Shape{6, 5}, DType::kFloat32, kCuda};
};

TEST_F(GraphSegmentCuda, RunsOnceIsCapturedOnceAndLaunchedFromThenOn) {
  GraphSegment segment;
  (void)expected(x_);  // the scratch grows to what it stays at
  expect_run(segment, x_);
  expect_counts(segment, 1, 0, 0);
  expect_run(segment, x_);
  expect_counts(segment, 1, 1, 1);
  for (int i = 0; i < 3; ++i) {
    ops::scale(ctx_, x_, 1.5);  // what is in memory may change
    expect_run(segment, x_);
  }
  expect_counts(segment, 1, 1, 4);
}

TEST_F(GraphSegmentCuda, AnotherAddressOrScratchIsAnotherGraph) {
  GraphSegment segment;
  (void)expected(x_);
  for (int i = 0; i < 3; ++i) run(segment, x_);
  expect_counts(segment, 1, 1, 2);
  const Tensor moved = on_cuda(ctx_, normal_values<float>(6 * 8, "moved"), {6, 8});
  for (int i = 0; i < 3; ++i) {
    expect_run(segment, moved);
    expect_run(segment, x_);
  }
  expect_counts(segment, 2, 2, 7);
  // The old scratch is gone; nothing that was captured over it is launched.
  witan::cuda::scratch(ctx_, witan::cuda::scratch_of(ctx_).bytes + 4096);
  for (int i = 0; i < 3; ++i) expect_run(segment, x_);
  expect_counts(segment, 3, 3, 9);
}

TEST_F(GraphSegmentCuda, ManyKeysLeaveTheLatest) {
  GraphSegment segment;
  (void)expected(x_);
  std::vector<Tensor> xs;
  for (int i = 0; i < 6; ++i) {
    xs.push_back(on_cuda(ctx_, normal_values<float>(6 * 8, "x" + std::to_string(i)), {6, 8}));
  }
  for (const Tensor& x : xs) {
    for (int i = 0; i < 2; ++i) expect_run(segment, x);
  }
  expect_counts(segment, 6, 6, 6);
  expect_run(segment, xs[5]);  // kept
  expect_counts(segment, 6, 6, 7);
  expect_run(segment, xs[0]);  // not
  expect_counts(segment, 7, 6, 7);
}

TEST_F(GraphSegmentCuda, WorkThatThrowsLeavesTheStreamAsItWas) {
  GraphSegment segment;
  (void)expected(x_);
  run(segment, x_);
  EXPECT_THROW(segment.run(ctx_, key_of(x_),
                           [&] {
                             work(x_);
                             throw std::runtime_error("in the middle");
                           }),
               std::runtime_error);
  expect_counts(segment, 1, 0, 0);
  expect_run(segment, x_);
  expect_counts(segment, 1, 1, 1);
}

}  // namespace
}  // namespace witan::test
