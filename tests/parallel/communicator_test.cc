// Every collective, on the communicator of MPI at 1 to 4 ranks and on the one of a single rank,
// with uneven and zero counts, and with several operations in flight.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/tensor/allocator.h"
#include "parallel/communicator.h"
#include "parallel/mpi_environment.h"

namespace witan {
namespace {

constexpr double kWatchdogSeconds = 60.0;

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

using Ints = std::vector<std::int64_t>;

// The communicators that a type's tests run on: the world, and in a world of one rank also "self".
std::vector<std::unique_ptr<Communicator>> communicators() {
  std::vector<std::unique_ptr<Communicator>> all;
  all.push_back(mpi().world(kWatchdogSeconds));
  if (mpi().size() == 1) all.push_back(make_self_communicator());
  return all;
}

std::int64_t sum(const Ints& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

// Rows that rank `from` sends to rank `to`: uneven, with zeros, and nobody sends to the last rank
// if there are more than two.
std::int64_t rows_between(int from, int to, int size) {
  if (size > 2 && to == size - 1) return 0;
  return (3 * from + 2 * to + 1) % 4;
}

template <class T>
T cell(int from, int to, std::int64_t row, std::int64_t col) {
  return static_cast<T>(1000 * from + 100 * to + 10 * row + col);
}

// One all_to_all_v with known contents.
template <class T>
struct Traffic {
  Traffic(const Communicator& group, std::int64_t cols, int shift = 0) : row_length(cols) {
    for (int peer = 0; peer < group.size(); ++peer) {
      send_counts.push_back(rows_between(group.rank() + shift, peer, group.size()));
      recv_counts.push_back(rows_between(peer + shift, group.rank(), group.size()));
      for (std::int64_t row = 0; row < send_counts.back(); ++row)
        for (std::int64_t col = 0; col < cols; ++col)
          from.push_back(cell<T>(group.rank() + shift, peer, row, col));
      for (std::int64_t row = 0; row < recv_counts.back(); ++row)
        for (std::int64_t col = 0; col < cols; ++col)
          expected.push_back(cell<T>(peer + shift, group.rank(), row, col));
    }
    to.assign(expected.size(), T{-1});
  }
  Request begin(Communicator& group) {
    return group.all_to_all_v(view_of(from.data(), {sum(send_counts), row_length}), send_counts,
                              view_of(to.data(), {sum(recv_counts), row_length}), recv_counts);
  }
  std::int64_t row_length;
  Ints send_counts, recv_counts;
  std::vector<T> from, to, expected;
};

template <class T>
class CollectiveTest : public ::testing::Test {};
using Types = ::testing::Types<float, double, std::int32_t, std::int64_t>;
TYPED_TEST_SUITE(CollectiveTest, Types);

TYPED_TEST(CollectiveTest, AllToAllVWithUnevenAndZeroCounts) {
  for (const auto& group : communicators()) {
    for (const std::int64_t cols : {1, 3, 17}) {
      Traffic<TypeParam> traffic(*group, cols);
      traffic.begin(*group).wait();
      EXPECT_EQ(traffic.to, traffic.expected) << group->name() << ", rows of " << cols;
    }
  }
}

TYPED_TEST(CollectiveTest, AllToAllVOfNothing) {
  for (const auto& group : communicators()) {
    const Ints zeros(static_cast<std::size_t>(group->size()), 0);
    const TensorView nothing = view_of<TypeParam>(nullptr, {0, 5});
    group->all_to_all_v(nothing, zeros, nothing, zeros).wait();
  }
}

TYPED_TEST(CollectiveTest, AllToAll) {
  for (const auto& group : communicators()) {
    const int size = group->size();
    for (const std::int64_t cols : {1, 4}) {
      std::vector<TypeParam> from, to(static_cast<std::size_t>(size * cols)), expected;
      for (int peer = 0; peer < size; ++peer) {
        for (std::int64_t col = 0; col < cols; ++col) {
          from.push_back(cell<TypeParam>(group->rank(), peer, 0, col));
          expected.push_back(cell<TypeParam>(peer, group->rank(), 0, col));
        }
      }
      group->all_to_all(view_of(from.data(), {size, cols}), view_of(to.data(), {size, cols}))
          .wait();
      EXPECT_EQ(to, expected);
    }
  }
}

TYPED_TEST(CollectiveTest, AllReduce) {
  for (const auto& group : communicators()) {
    const int size = group->size();
    for (const std::int64_t n : {0, 1, 5, 10000}) {
      std::vector<TypeParam> data(static_cast<std::size_t>(n));
      const auto value = [&](int rank, std::size_t i) {
        return static_cast<TypeParam>((rank + 1) * static_cast<int>(i % 100 + 1));
      };
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
        for (std::size_t i = 0; i < data.size(); ++i) data[i] = value(group->rank(), i);
        group->all_reduce(view_of(data.data(), {n}), op).wait();
        for (std::size_t i = 0; i < data.size(); ++i) {
          const TypeParam all = static_cast<TypeParam>(size * (size + 1) / 2) * value(0, i);
          ASSERT_EQ(data[i], op == ReduceOp::kSum   ? all
                             : op == ReduceOp::kMax ? value(size - 1, i)
                                                    : value(0, i))
              << "element " << i << " of " << n;
        }
      }
    }
  }
}

TYPED_TEST(CollectiveTest, ReduceScatterAndAllGather) {
  for (const auto& group : communicators()) {
    const int size = group->size();
    for (const std::int64_t n : {0, 1, 7, 5000}) {
      for (const bool in_place : {false, true}) {
        const auto part = static_cast<std::size_t>(n);
        std::vector<TypeParam> whole(part * static_cast<std::size_t>(size)), apart(part);
        const auto value = [](int rank, std::size_t i) {
          return static_cast<TypeParam>((rank + 2) * static_cast<int>(i % 50));
        };
        TypeParam ranks_factor = 0;
        for (int rank = 0; rank < size; ++rank) ranks_factor += static_cast<TypeParam>(rank + 2);
        for (std::size_t i = 0; i < whole.size(); ++i) whole[i] = value(group->rank(), i);
        const TensorView all = view_of(whole.data(), {n * size});
        const TensorView mine =
            in_place ? all.slice_rows(n * group->rank(), n) : view_of(apart.data(), {n});
        group->reduce_scatter_sum(all, mine).wait();
        for (std::size_t i = 0; i < part; ++i) {
          const std::size_t global = part * static_cast<std::size_t>(group->rank()) + i;
          ASSERT_EQ(mine.as<TypeParam>()[i],
                    ranks_factor * static_cast<TypeParam>(static_cast<int>(global % 50)));
        }
        group->all_gather(mine, all).wait();
        for (std::size_t i = 0; i < whole.size(); ++i)
          ASSERT_EQ(whole[i], ranks_factor * static_cast<TypeParam>(static_cast<int>(i % 50)));
      }
    }
  }
}

TYPED_TEST(CollectiveTest, ReduceSum) {
  for (const auto& group : communicators()) {
    for (const std::int64_t n : {0, 1, 5000}) {
      for (int root = 0; root < group->size(); ++root) {
        std::vector<TypeParam> data(static_cast<std::size_t>(n));
        const auto value = [](int rank, std::size_t i) {
          return static_cast<TypeParam>((rank + 2) * static_cast<int>(i % 50));
        };
        for (std::size_t i = 0; i < data.size(); ++i) data[i] = value(group->rank(), i);
        group->reduce_sum(view_of(data.data(), {n}), root).wait();
        for (std::size_t i = 0; i < data.size(); ++i) {
          TypeParam sum = 0;
          for (int rank = 0; rank < group->size(); ++rank) sum += value(rank, i);
          ASSERT_EQ(data[i], group->rank() == root ? sum : value(group->rank(), i));
        }
      }
    }
  }
}

TYPED_TEST(CollectiveTest, AllGatherV) {
  for (const auto& group : communicators()) {
    for (const bool in_place : {false, true}) {
      Ints counts;
      std::vector<TypeParam> expected, own;
      std::int64_t begin = 0;
      for (int rank = 0; rank < group->size(); ++rank) {
        if (rank == group->rank()) begin = sum(counts);
        counts.push_back((rank * 3 + 2) % 4);
        for (std::int64_t row = 0; row < counts.back(); ++row) {
          for (std::int64_t col = 0; col < 3; ++col) {
            expected.push_back(cell<TypeParam>(rank, 0, row, col));
            if (rank == group->rank()) own.push_back(expected.back());
          }
        }
      }
      std::vector<TypeParam> all(expected.size(), TypeParam{-1});
      const TensorView to = view_of(all.data(), {sum(counts), 3});
      const std::int64_t rows = counts[static_cast<std::size_t>(group->rank())];
      TensorView from = view_of(own.data(), {rows, 3});
      if (in_place) {
        from = to.slice_rows(begin, rows);
        std::copy(own.begin(), own.end(), from.as<TypeParam>());
      }
      group->all_gather_v(from, to, counts).wait();
      EXPECT_EQ(all, expected);
    }
  }
}

TYPED_TEST(CollectiveTest, BroadcastFromEveryRoot) {
  for (const auto& group : communicators()) {
    for (int root = 0; root < group->size(); ++root) {
      std::vector<TypeParam> data(13, static_cast<TypeParam>(group->rank()));
      group->broadcast(view_of(data.data(), {13}), root).wait();
      EXPECT_EQ(data, std::vector<TypeParam>(13, static_cast<TypeParam>(root)));
    }
  }
}

TYPED_TEST(CollectiveTest, SeveralInFlightWaitedOutOfOrder) {
  for (const auto& group : communicators()) {
    Traffic<TypeParam> first(*group, 5), second(*group, 2, 1), third(*group, 1, 2);
    const int size = group->size();
    for (int round = 0; round < 3; ++round) {
      for (auto* traffic : {&first, &second, &third}) traffic->to.assign(traffic->to.size(), 0);
      std::vector<TypeParam> reduced(1000, TypeParam{1});
      Request a = first.begin(*group);
      Request b = group->all_reduce(view_of(reduced.data(), {1000}), ReduceOp::kSum);
      Request c = second.begin(*group);
      Request d = third.begin(*group);
      // Not even in the same order on every rank.
      if (group->rank() % 2 == 0) {
        d.wait();
        b.wait();
        c.wait();
        a.wait();
      } else {
        c.wait();
        a.wait();
        d.wait();
        b.wait();
      }
      EXPECT_FALSE(a.active());
      EXPECT_EQ(first.to, first.expected);
      EXPECT_EQ(second.to, second.expected);
      EXPECT_EQ(third.to, third.expected);
      EXPECT_EQ(reduced, std::vector<TypeParam>(1000, static_cast<TypeParam>(size)));
    }
  }
}

// Value of element i on a rank: sums of these depend on the order of the additions.
float rough(int rank, std::size_t i) {
  return 1.0F / static_cast<float>(i + 3) +
         1e4F / static_cast<float>((rank + 1) * 7 + static_cast<int>(i % 11));
}

TEST(CommunicatorTest, AllReduceGivesEveryRankTheSameBits) {
  const auto group = mpi().world(kWatchdogSeconds);
  for (const std::int64_t n : {3, 1000, 300000}) {
    std::vector<float> data(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = rough(group->rank(), i);
    group->all_reduce(view_of(data.data(), {n}), ReduceOp::kSum).wait();
    std::vector<float> all(data.size() * static_cast<std::size_t>(group->size()));
    group->all_gather(view_of(data.data(), {n}), view_of(all.data(), {n * group->size()})).wait();
    for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], data[i % data.size()]);
  }
}

TEST(CommunicatorTest, ReduceScatterSumsInOrderOfTheRanks) {
  const auto group = mpi().world(kWatchdogSeconds);
  const int size = group->size();
  for (const std::int64_t n : {1, 4096, 10001}) {
    std::vector<float> from(static_cast<std::size_t>(n * size)), to(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = rough(group->rank(), i);
    group->reduce_scatter_sum(view_of(from.data(), {n * size}), view_of(to.data(), {n})).wait();
    for (std::size_t i = 0; i < to.size(); ++i) {
      const std::size_t element = i + static_cast<std::size_t>(n * group->rank());
      float expected = rough(0, element);
      for (int rank = 1; rank < size; ++rank) expected += rough(rank, element);
      ASSERT_EQ(to[i], expected) << "element " << i << " of " << n;
      ASSERT_EQ(from[element], rough(group->rank(), element)) << "the input changed";
    }
  }
}

TEST(CommunicatorTest, RepeatedOperationsAllocateNothing) {
  const auto group = mpi().world(kWatchdogSeconds);
  const int size = group->size();
  const std::int64_t small = 1000;
  const std::int64_t large = 1000000;
  std::vector<double> a(static_cast<std::size_t>(size * small)), b(small);
  std::vector<double> c(static_cast<std::size_t>(size * large)), d(large);
  const auto step = [&] {
    Request first =
        group->reduce_scatter_sum(view_of(a.data(), {size * small}), view_of(b.data(), {small}));
    Request second =
        group->reduce_scatter_sum(view_of(c.data(), {size * large}), view_of(d.data(), {large}));
    first.wait();
    second.wait();
  };
  step();
  const std::int64_t before = allocation_stats(DeviceType::kCpu).allocations;
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(allocation_stats(DeviceType::kCpu).allocations, before);
}

TEST(CommunicatorTest, BytesOfAnyLength) {
  for (const auto& group : communicators()) {
    const std::string text = std::string("abc\0def", 7) + std::string(100000, 'x');
    for (const std::string& sent : {std::string(), std::string("z"), text}) {
      std::string bytes = group->rank() == group->size() - 1 ? sent : "something else";
      group->broadcast_bytes(bytes, group->size() - 1);
      EXPECT_EQ(bytes, sent);
    }
    // Rank r contributes r times its letter; the root is not the first rank.
    const int root = group->size() - 1;
    const auto part = [](int rank) {
      return std::string(static_cast<std::size_t>(rank), static_cast<char>('a' + rank));
    };
    std::string expected;
    for (int rank = 0; rank < group->size(); ++rank) expected += part(rank);
    const std::string gathered = group->gather_bytes(part(group->rank()), root);
    EXPECT_EQ(gathered, group->rank() == root ? expected : "");
    group->barrier();
  }
}

TEST(CommunicatorTest, SplitGroupsTalkAmongThemselves) {
  const auto world = mpi().world(kWatchdogSeconds);
  const int color = world->rank() % 2;
  const auto group = mpi().split(color, "half", kWatchdogSeconds);
  EXPECT_EQ(group->name(), "half");
  EXPECT_EQ(group->rank(), world->rank() / 2);
  std::int64_t total = world->rank();
  group->all_reduce(view_of(&total, {1}), ReduceOp::kSum).wait();
  std::int64_t expected = 0;
  for (int rank = color; rank < world->size(); rank += 2) expected += rank;
  EXPECT_EQ(total, expected);
}

TEST(CommunicatorTest, WaitingIsCounted) {
  const auto group = mpi().world(kWatchdogSeconds);
  if (group->size() == 1) GTEST_SKIP() << "needs two ranks";
  group->barrier();
  group->take_wait_seconds();
  if (group->rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  group->barrier();
  const double waited = group->take_wait_seconds();
  if (group->rank() != 0) {
    EXPECT_GT(waited, 0.2);
  }
  EXPECT_EQ(group->take_wait_seconds(), 0.0);
}

TEST(CommunicatorTest, WrongArgumentsAreNamed) {
  for (const auto& group : communicators()) {
    std::vector<float> data(static_cast<std::size_t>(2 * group->size() + 1));
    const auto message = [](auto&& call) {
      try {
        call();
      } catch (const Error& error) {
        return std::string(error.what());
      }
      return std::string("no error");
    };
    const TensorView odd = view_of(data.data(), {2 * group->size() + 1});
    const TensorView two = view_of(data.data(), {2});
    EXPECT_NE(message([&] { group->all_gather(two, odd).wait(); }).find("do not make"),
              std::string::npos);
    const Ints counts(static_cast<std::size_t>(group->size()), 1);
    EXPECT_NE(message([&] {
                group->all_to_all_v(odd, counts, odd, counts).wait();
              }).find("send counts add up to " + std::to_string(group->size())),
              std::string::npos);
    TensorView on_gpu = two;
    on_gpu.device = {DeviceType::kCuda, 0};
    EXPECT_NE(message([&] {
                group->all_reduce(on_gpu, ReduceOp::kSum).wait();
              }).find("takes CPU tensors"),
              std::string::npos);
    EXPECT_NE(message([&] { group->broadcast(two, group->size()).wait(); }).find("root"),
              std::string::npos);
  }
}

TEST(RequestDeathTest, MustBeWaitedFor) {
  if (mpi().size() > 1) GTEST_SKIP() << "one rank is enough";
  struct Endless final : Request::Impl {
    void wait() override {}
    void release() noexcept override {}
  };
  Endless operation;
  EXPECT_DEATH({ Request request(&operation); }, "was not waited for");
}

}  // namespace
}  // namespace witan
