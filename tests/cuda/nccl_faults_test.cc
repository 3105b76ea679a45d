// Tests of the tests: mistakes around collectives that the stand-in for NCCL promises to find.
#include <gtest/gtest.h>
#include <nccl.h>

#include "core/base/stream.h"
#include "launch/runtime.h"
#include "parallel/device_communicator.h"
#include "tests/cuda/cuda_case.h"
#include "tests/cuda/trainer_cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

class NcclFaults : public ::testing::Test {
 protected:
  void SetUp() override { cuda_on_cpu::set_device_count(world().size()); }
  void TearDown() override { world().barrier(); }
};

// One rank exchanges what it sends for what it receives.
TEST_F(NcclFaults, SwappedCountsInAnAllToAll) {
  const DeviceStream stream(gpu_of_rank(mpi().local_rank()));
  const Context& ctx = stream.context();
  const auto group = make_nccl_communicator(mpi().split(0, "group", 0.0), ctx, kWatchdogSeconds);
  const auto rows = [](int from, int to) { return from < to ? 2 : from == to ? 1 : 3; };
  const auto exchange = [&](bool swapped) {
    std::vector<std::int64_t> send, recv;
    std::int64_t sent = 0, received = 0;
    for (int peer = 0; peer < group->size(); ++peer) {
      sent += send.emplace_back(rows(group->rank(), peer));
      received += recv.emplace_back(rows(peer, group->rank()));
    }
    if (swapped) std::swap(send, recv), std::swap(sent, received);
    const std::vector<float> ones(static_cast<std::size_t>(sent), 1.0F);
    const Tensor from = transferred(ctx, view_of(ones.data(), {sent, 1}), ctx.device);
    const Tensor to({received, 1}, DType::kFloat32, ctx.device);
    group->all_to_all_v(from, send, to, recv).wait();
    return to_host<float>(ctx, to);
  };
  EXPECT_NO_THROW(exchange(false));
  EXPECT_THROW(exchange(world().rank() == 0), Error);
  std::string faults;
  for (const std::string& fault : cuda_on_cpu::take_faults()) faults += fault;
  EXPECT_NE(faults.find("NCCL"), std::string::npos) << faults;
}

// What a collective reads is written on another stream.
TEST_F(NcclFaults, AMissingEventBeforeACollective) {
  const DeviceStream compute(gpu_of_rank(mpi().local_rank()));
  const DeviceStream communication(compute.context().device);
  const Context& ctx = compute.context();
  ncclUniqueId id;
  if (world().rank() == 0) {
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  }
  std::string bytes(id.internal, sizeof id.internal);
  world().broadcast_bytes(bytes, 0);
  bytes.copy(id.internal, sizeof id.internal);
  ncclComm_t comm = nullptr;
  ASSERT_EQ(ncclCommInitRank(&comm, world().size(), id, world().rank()), ncclSuccess);

  const std::vector<float> ones(64, 1.0F), zeros(64, 0.0F);
  const Tensor written = transferred(ctx, view_of(ones.data(), {64}), ctx.device);
  const Tensor data({64}, DType::kFloat32, ctx.device);
  const auto right_sum = [&](bool with_event) {
    transfer(ctx, view_of(zeros.data(), {64}), data);
    synchronize(ctx);
    transfer(ctx, written, data);
    if (with_event) {
      DeviceEvent ready(ctx.device);
      ready.record(ctx);
      ready.make_wait(communication.context());
    }
    EXPECT_EQ(ncclAllReduce(data.view().data, data.view().data, 64, ncclFloat32, ncclSum, comm,
                            static_cast<cudaStream_t>(communication.get().handle)),
              ncclSuccess);
    synchronize(communication.context());
    return to_host<float>(ctx, data)[5] == static_cast<float>(world().size());
  };
  int wrong = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    cuda_on_cpu::set_seed(seed);
    EXPECT_TRUE(right_sum(true));
    wrong += right_sum(false) ? 0 : 1;
  }
  EXPECT_GT(wrong, 0);
  ncclCommDestroy(comm);
}

TEST_F(NcclFaults, AHostPointer) {
  const DeviceStream stream(gpu_of_rank(mpi().local_rank()));
  const auto group =
      make_nccl_communicator(mpi().split(0, "group", 0.0), stream.context(), kWatchdogSeconds);
  std::vector<float> host(4, 1.0F);
  TensorView pretended = view_of(host.data(), {4});
  pretended.device = stream.context().device;
  EXPECT_THROW(group->all_reduce(pretended, ReduceOp::kSum).wait(), Error);
  EXPECT_EQ(cuda_on_cpu::take_faults().size(), 1u);
}

}  // namespace
}  // namespace witan::test
