// Collectives on the memory of GPUs, by NCCL and through MPI, at any number of ranks; both run on
// stand-ins.
#include "parallel/device_communicator.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

#include "core/base/stream.h"
#include "core/tensor/device_memory.h"
#include "launch/runtime.h"
#include "parallel/rank_group.h"
#include "tests/cuda/cuda_case.h"
#include "tests/cuda/trainer_cuda_case.h"
#include "tests/support/cuda_on_cpu/control.h"

namespace witan::test {
namespace {

enum class Kind { kNccl, kStaged };

class DeviceCollectives : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (world().size() == 1) GTEST_SKIP() << "a group of one rank has no communicator of its own";
    cuda_on_cpu::set_device_count(world().size());
    cuda_on_cpu::set_seed(static_cast<std::uint64_t>(world().rank()) + 3);
    stream_.emplace(gpu_of_rank(mpi().local_rank()));
    auto host = mpi().split(0, "group", kWatchdogSeconds);
    group_ = GetParam() == Kind::kNccl
                 ? make_nccl_communicator(std::move(host), ctx(), kWatchdogSeconds)
                 : make_staged_communicator(std::move(host), ctx());
  }
  void TearDown() override {
    group_.reset();
    stream_.reset();
    for (const std::string& fault : cuda_on_cpu::take_faults()) ADD_FAILURE() << fault;
  }

  const Context& ctx() const { return stream_->context(); }
  Tensor on_gpu(const std::vector<float>& values, const Shape& shape) const {
    return transferred(ctx(), view_of(values.data(), shape), ctx().device);
  }
  Tensor empty(const Shape& shape) const { return {shape, DType::kFloat32, ctx().device}; }
  std::vector<float> host(const TensorView& x) const { return to_host<float>(ctx(), x); }
  int rank() const { return group_->rank(); }
  int size() const { return group_->size(); }

  std::optional<DeviceStream> stream_;
  std::unique_ptr<Communicator> group_;
};

INSTANTIATE_TEST_SUITE_P(Transports, DeviceCollectives,
                         ::testing::Values(Kind::kNccl, Kind::kStaged), [](const auto& tested) {
                           return tested.param == Kind::kNccl ? "Nccl" : "StagedMpi";
                         });

// Rows that rank `from` sends to rank `to`: none, one or several.
std::int64_t rows(int from, int to) { return (2 * from + 3 * to) % 4; }

TEST_P(DeviceCollectives, AllToAllV) {
  constexpr std::int64_t kColumns = 3;
  std::vector<std::int64_t> send, recv;
  std::vector<float> sent, expected;
  for (int peer = 0; peer < size(); ++peer) {
    send.push_back(rows(rank(), peer));
    recv.push_back(rows(peer, rank()));
    for (std::int64_t i = 0; i < send.back() * kColumns; ++i) {
      sent.push_back(static_cast<float>(100 * rank() + 10 * peer) + static_cast<float>(i));
    }
    for (std::int64_t i = 0; i < recv.back() * kColumns; ++i) {
      expected.push_back(static_cast<float>(100 * peer + 10 * rank()) + static_cast<float>(i));
    }
  }
  const Tensor from =
      on_gpu(sent, {std::accumulate(send.begin(), send.end(), std::int64_t{0}), kColumns});
  const Tensor to = empty({std::accumulate(recv.begin(), recv.end(), std::int64_t{0}), kColumns});
  group_->all_to_all_v(from, send, to, recv).wait();
  EXPECT_EQ(host(to), expected);
}

// What the model asks for: the rows of all ranks, of some of them none, without being told how many
// there are; then as many of each, for which no host waits where NCCL carries them.
TEST_P(DeviceCollectives, RowsOfTheGroup) {
  constexpr std::int64_t kColumns = 3;
  CommunicatorRankGroup group(*group_), host_group(*group_);
  for (int step = 0; step < 4; ++step) {
    SCOPED_TRACE(step);
    const bool even = step == 1 || step == 2;
    std::vector<float> own, expected;
    std::int64_t first = 0;
    for (int peer = 0; peer < size(); ++peer) {
      const std::int64_t count = even ? 2 : rows(peer, 1);
      for (std::int64_t i = 0; i < count * kColumns; ++i) {
        expected.push_back(static_cast<float>(100 * peer + i));
        if (peer == rank()) own.push_back(expected.back());
      }
      if (peer < rank()) first += count;
    }
    const auto own_rows = static_cast<std::int64_t>(own.size()) / kColumns;
    const Tensor x = on_gpu(own, {own_rows, kColumns});
    const std::uint64_t waits = cuda_on_cpu::host_waits();
    const RankGroup::Gathered all = group.gather(ctx(), x, even);
    if (step == 2 && GetParam() == Kind::kNccl) {
      EXPECT_EQ(cuda_on_cpu::host_waits(), waits);
    }
    EXPECT_EQ(all.first, first);
    EXPECT_EQ(host(all.rows), expected);
    // The host's memory as well, through the same group.
    EXPECT_EQ(to_host<float>(ctx(),
                             host_group.gather({}, view_of(own.data(), x.view().shape), even).rows),
              expected);
  }
  synchronize(ctx());
}

TEST_P(DeviceCollectives, ReductionsAndGathers) {
  constexpr std::int64_t kPart = 5;
  const auto ranks = static_cast<std::int64_t>(size());
  std::vector<float> whole(static_cast<std::size_t>(kPart * ranks));
  std::iota(whole.begin(), whole.end(), static_cast<float>(10 * rank()));
  const float ranks_sum = 10.0F * static_cast<float>(size() * (size() - 1)) / 2.0F;

  const Tensor reduced = on_gpu(whole, {kPart * ranks});
  const Tensor scattered = on_gpu(whole, {kPart * ranks});
  const Tensor part = empty({kPart});
  const Tensor gathered = empty({kPart * ranks});
  const Tensor told = on_gpu(whole, {kPart * ranks});
  const Tensor kept = on_gpu(whole, {kPart * ranks});
  Request at_last = group_->reduce_sum(kept, size() - 1);
  Request all = group_->all_reduce(reduced, ReduceOp::kSum);  // several in flight
  Request scatter = group_->reduce_scatter_sum(scattered, part);
  scatter.wait();
  all.wait();
  at_last.wait();
  group_->all_gather(part, gathered).wait();
  group_->broadcast(told, size() - 1).wait();
  std::vector<float> sum, last;
  for (std::int64_t i = 0; i < kPart * ranks; ++i) {
    sum.push_back(ranks_sum + static_cast<float>(ranks * i));
    last.push_back(static_cast<float>(10 * (ranks - 1) + i));
  }
  EXPECT_EQ(host(reduced), sum);
  EXPECT_EQ(host(kept), rank() == size() - 1 ? sum : whole);
  EXPECT_EQ(host(gathered), sum);
  EXPECT_EQ(host(told), last);

  std::vector<std::int64_t> counts;
  std::vector<float> expected;
  for (int peer = 0; peer < size(); ++peer) {
    counts.push_back(peer % 3);
    expected.insert(expected.end(), static_cast<std::size_t>(peer % 3), static_cast<float>(peer));
  }
  const auto own = static_cast<std::size_t>(rank() % 3);
  const Tensor mine = on_gpu(std::vector<float>(own, static_cast<float>(rank())),
                             {static_cast<std::int64_t>(own), 1});
  const Tensor all_rows = empty({static_cast<std::int64_t>(expected.size()), 1});
  group_->all_gather_v(mine, all_rows, counts).wait();
  EXPECT_EQ(host(all_rows), expected);
}

// A part of the buffer itself, as the optimizer's shards are.
TEST_P(DeviceCollectives, InPlaceParts) {
  constexpr std::int64_t kPart = 4;
  const std::vector<float> ones(static_cast<std::size_t>(kPart * size()), 1.0F);
  const Tensor flat = on_gpu(ones, {kPart * size()});
  const TensorView own = flat.view().slice_rows(kPart * rank(), kPart);
  group_->reduce_scatter_sum(flat, own).wait();
  group_->all_gather(own, flat).wait();
  EXPECT_EQ(host(flat), std::vector<float>(ones.size(), static_cast<float>(size())));
}

// What a kernel wrote just before is what is sent, and what arrives can be read at once.
TEST_P(DeviceCollectives, OrderedWithTheModelsStream) {
  const Tensor data = empty({1000});
  for (int round = 0; round < 3; ++round) {
    const std::vector<float> values(1000, static_cast<float>(rank() + round));
    transfer(ctx(), view_of(values.data(), {1000}), data);  // enqueued: not there yet
    group_->all_reduce(data, ReduceOp::kMax).wait();
    EXPECT_EQ(host(data), std::vector<float>(1000, static_cast<float>(size() - 1 + round)));
  }
}

// The same with requests that end in stream order: the host goes on, and the device waits.
TEST_P(DeviceCollectives, RequestsThatTheStreamWaitsFor) {
  const DeviceStream other(ctx().device);
  const Tensor data = empty({1000});
  const Tensor copied = empty({1000});
  for (int round = 0; round < 4; ++round) {
    const std::vector<float> values(1000, static_cast<float>(rank() + round));
    (void)group_->take_wait_seconds();
    const std::uint64_t waits = cuda_on_cpu::host_waits();
    transfer(ctx(), view_of(values.data(), {1000}), data);
    Request first = group_->all_reduce(data, ReduceOp::kMax);
    first.wait_on(ctx());
    EXPECT_FALSE(first.active());
    group_->broadcast(data, 0).wait_on(other.context());
    transfer(other.context(), data, copied);
    if (GetParam() == Kind::kNccl) {
      EXPECT_EQ(cuda_on_cpu::host_waits(), waits);
      EXPECT_EQ(group_->take_wait_seconds(), 0.0);
    }
    const std::vector<float> largest(1000, static_cast<float>(size() - 1 + round));
    EXPECT_EQ(to_host<float>(other.context(), copied), largest);
    synchronize(ctx());
  }
}

TEST_P(DeviceCollectives, TensorsOfTheHostTakeTheHostsWay) {
  double value = rank();
  group_->all_reduce(view_of(&value, {1}), ReduceOp::kSum).wait();
  EXPECT_EQ(value, size() * (size() - 1) / 2);
  const Tensor there = empty({size()});
  EXPECT_THROW(group_->all_gather(view_of(&value, {1}), there), Error);
}

// The library takes device memory for itself.
TEST(NcclStart, OutOfMemoryNamesTheCommunicator) {
  if (world().size() == 1) GTEST_SKIP() << "a group of one rank has no communicator of its own";
  cuda_on_cpu::set_device_count(world().size());
  const DeviceStream stream(gpu_of_rank(mpi().local_rank()));
  cuda_on_cpu::set_device_memory(1000);
  try {
    make_nccl_communicator(mpi().split(0, "group", 0.0), stream.context(), kWatchdogSeconds);
    ADD_FAILURE() << "no error";
  } catch (const OutOfDeviceMemory& error) {
    EXPECT_EQ(std::string(error.what()).rfind("buffers of NCCL's communicator 'group' of ", 0), 0u)
        << error.what();
    EXPECT_NE(std::string(error.what()).find("1000 of 1000 free"), std::string::npos);
  }
  cuda_on_cpu::set_device_memory(std::size_t{256} << 20);
}

TEST(NcclStart, AnOlderLibraryThanThatOfTheBuildIsAUserError) {
  cuda_on_cpu::set_device_count(world().size());
  const DeviceStream stream(gpu_of_rank(mpi().local_rank()));
  setenv("WITAN_STAND_IN_NCCL_VERSION", "21805", 1);
  try {
    make_nccl_communicator(mpi().split(0, "group", 0.0), stream.context(), kWatchdogSeconds);
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("the library found is 2.18.5"), std::string::npos)
        << error.what();
  }
  unsetenv("WITAN_STAND_IN_NCCL_VERSION");
}

TEST(GpuOfRank, TheListCountsRound) {
  cuda_on_cpu::set_device_count(4);
  EXPECT_EQ(gpu_of_rank(5).index, 1);
  EXPECT_EQ(gpu_of_rank(3, std::vector<std::int64_t>{2, 0}).index, 0);
  EXPECT_THROW(gpu_of_rank(1, std::vector<std::int64_t>{0, 4}), UserError);
  EXPECT_EQ(gpu_of_rank(1, std::vector<std::int64_t>{3}).index, 3);
  cuda_on_cpu::set_device_count(world().size());
}

}  // namespace
}  // namespace witan::test
