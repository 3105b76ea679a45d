// Streams, events and transfers: what enqueued work may rely on.
#include "core/base/stream.h"

#include <gtest/gtest.h>

#include "core/base/device_timer.h"
#include "core/base/error.h"
#include "core/ops/elementwise.h"
#include "core/tensor/arena.h"
#include "tests/cuda/cuda_case.h"

namespace witan::test {
namespace {

class StreamCuda : public CudaTest {};

TEST_F(StreamCuda, TransfersThereAndBack) {
  const DeviceStream stream(kCuda);
  const auto values = normal_values<float>(1001, "values");
  const Tensor there = on_cuda(stream.context(), values, {7, 11, 13});
  const Tensor copied = transferred(stream.context(), there, kCuda);
  EXPECT_EQ(to_host<float>(stream.context(), copied), values);
}

TEST_F(StreamCuda, HostMemoryIsFreeAgainAfterATransfer) {
  const DeviceStream stream(kCuda);
  std::vector<std::int32_t> values{1, 2, 3};
  const Tensor there = on_cuda(stream.context(), values, {3});
  values = {7, 8, 9};
  EXPECT_EQ(to_host<std::int32_t>(stream.context(), there), (std::vector<std::int32_t>{1, 2, 3}));
}

TEST_F(StreamCuda, TransfersOfOtherShapesAreRefused) {
  const DeviceStream stream(kCuda);
  const Tensor there({3}, DType::kFloat32, kCuda);
  std::vector<float> here(4);
  EXPECT_THROW(transfer(stream.context(), there, view_of(here.data(), {4})), Error);
}

TEST_F(StreamCuda, ATimerSaysHowLongWorkTook) {
  const DeviceStream stream(kCuda);
  const Context& ctx = stream.context();
  DeviceTimer timer(kCuda);
  const Tensor few({1}, DType::kFloat32, kCuda);
  const Tensor many({1 << 18}, DType::kFloat32, kCuda);
  const auto seconds = [&](const Tensor& tensor) {
    timer.start(ctx);
    ops::fill(ctx, tensor, 1.0);
    timer.stop(ctx);
    return timer.seconds();
  };
  seconds(few);
  const double short_time = seconds(few);
  EXPECT_GE(short_time, 0.0);
  EXPECT_LT(short_time, 1.0);
  EXPECT_GT(seconds(many), 0.0);
}

TEST_F(StreamCuda, EventOrdersTwoStreams) {
  const DeviceStream writer(kCuda);
  const DeviceStream reader(kCuda);
  DeviceEvent written(kCuda);
  const auto values = normal_values<float>(64, "values");
  for (int order = 0; order < kOrders; ++order) {
    choose_order(order);
    const Tensor a(Shape{64}, DType::kFloat32, kCuda);
    const Tensor b(Shape{64}, DType::kFloat32, kCuda);
    transfer(writer.context(), view_of(values.data(), {64}), a);
    written.record(writer.context());
    written.make_wait(reader.context());
    transfer(reader.context(), a, b);
    EXPECT_EQ(to_host<float>(reader.context(), b), values);
    written.synchronize();
  }
}

TEST_F(StreamCuda, ArenasAndAllocationCountsWork) {
  const DeviceStream stream(kCuda);
  const auto before = allocation_stats(DeviceType::kCuda);
  {
    Arena arena(kCuda, "test");
    const TensorView x = arena.allocate({5, 7}, DType::kFloat64);
    const auto values = normal_values<double>(35, "values");
    transfer(stream.context(), view_of(values.data(), {5, 7}), x);
    EXPECT_EQ(to_host<double>(stream.context(), x), values);
    EXPECT_EQ(allocation_stats(DeviceType::kCuda).allocations, before.allocations + 1);
  }
  EXPECT_EQ(allocation_stats(DeviceType::kCuda).bytes_in_use, before.bytes_in_use);
}

TEST_F(StreamCuda, ADeviceThatDoesNotExistIsAUserError) {
  const Device far{DeviceType::kCuda, 1000};
  EXPECT_THROW(DeviceStream{far}, UserError);
  EXPECT_THROW(Tensor({4}, DType::kFloat32, far), UserError);
}

// The CPU side of the same types, with no device at all.
TEST_F(StreamCuda, TheCpuNeedsNoStream) {
  const DeviceStream stream{Device{}};
  EXPECT_EQ(stream.get().handle, nullptr);
  DeviceEvent event{Device{}};
  event.record(stream.context());
  event.make_wait(stream.context());
  event.synchronize();
  synchronize(stream.context());
  EXPECT_THROW(event.record(Context{kCuda, {}}), Error);
}

}  // namespace
}  // namespace witan::test
