#include "launch/bench/stopwatch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "core/base/error.h"
#include "parallel/mpi_environment.h"
#include "parallel/raw_mpi.h"

namespace witan {
namespace {

const MpiEnvironment& mpi() {
  static const MpiEnvironment environment(nullptr, nullptr);
  return environment;
}

Communicator& world() {
  static const std::unique_ptr<Communicator> communicator = mpi().world(120.0);
  return *communicator;
}

TEST(Stopwatch, EveryRankGetsTheTimeOfTheSlowest) {
  Stopwatch stopwatch(world(), BenchClock::kWall);
  // In turn i rank i is the slow one.
  for (int turn = 0; turn < world().size(); ++turn) {
    stopwatch.add("work", turn == world().rank() ? 2.0 : 1.0);
    stopwatch.add("more", 0.5);
  }
  EXPECT_DOUBLE_EQ(stopwatch.seconds("work").low, 2.0);
  EXPECT_DOUBLE_EQ(stopwatch.seconds("work").high, 2.0);
  EXPECT_EQ(stopwatch.seconds("work").count, world().size());
  EXPECT_DOUBLE_EQ(stopwatch.seconds_of_sum({"work", "more"}).median, 2.5);
}

TEST(Stopwatch, WhatWasNotTimedIsAnError) {
  Stopwatch stopwatch(world(), BenchClock::kWall);
  EXPECT_THROW(stopwatch.seconds("work"), Error);
  stopwatch.add("one", 1.0);
  stopwatch.add("two", 1.0);
  stopwatch.add("two", 1.0);
  EXPECT_THROW(stopwatch.seconds_of_sum({"one", "two"}), Error);
}

TEST(Stopwatch, TheClockOfTheProcessorLeavesSleepOut) {
  const auto nap = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  Stopwatch wall(world(), BenchClock::kWall);
  Stopwatch cpu(world(), BenchClock::kCpu);
  wall.time("nap", nap);
  cpu.time("nap", nap);
  EXPECT_GE(wall.seconds("nap").median, 0.020);
  EXPECT_LT(cpu.seconds("nap").median, 0.015);
}

TEST(Stopwatch, AloneIsOnRankZeroWithItsThreads) {
  Stopwatch stopwatch(world(), BenchClock::kWall);
  const RawMpi raw(mpi());
  int ran = 0;
  stopwatch.time_alone("work", 2, raw, [&] { ++ran; });
  EXPECT_EQ(ran, world().rank() == 0 ? 1 : 0);
  EXPECT_GT(stopwatch.seconds("work").median, 0.0);
}

float value_of(int from, int to, std::int64_t i) {
  return static_cast<float>(100 * from + 10 * to) + static_cast<float>(i);
}

TEST(RawMpi, AllToAllVMovesUnevenAndEmptyParts) {
  const RawMpi raw(mpi());
  const int ranks = world().size();
  constexpr std::int64_t kRow = 3;
  // Rank r sends (r + to) % 3 rows.
  const auto rows = [](int from, int to) { return static_cast<std::int64_t>((from + to) % 3); };
  std::vector<std::int64_t> send, recv;
  std::vector<float> from, expected;
  for (int peer = 0; peer < ranks; ++peer) {
    send.push_back(rows(world().rank(), peer));
    recv.push_back(rows(peer, world().rank()));
    for (std::int64_t i = 0; i < send.back() * kRow; ++i) {
      from.push_back(value_of(world().rank(), peer, i));
    }
    for (std::int64_t i = 0; i < recv.back() * kRow; ++i) {
      expected.push_back(value_of(peer, world().rank(), i));
    }
  }
  std::vector<float> to(expected.size(), -1.0f);
  raw.all_to_all_v(from, send, to, recv, kRow);
  EXPECT_EQ(to, expected);
}

TEST(RawMpi, WindowsHoldWhatTheOthersWrote) {
  RawMpi raw(mpi());
  const int ranks = world().size();
  for (const std::int64_t floats : {5, 1000}) {  // opened anew
    raw.open_windows(floats);
    std::vector<float> from;
    for (int peer = 0; peer < ranks; ++peer) {
      for (std::int64_t i = 0; i < floats; ++i) from.push_back(value_of(world().rank(), peer, i));
    }
    raw.write_windows(from);
    world().barrier();
    const std::span<const float> found = raw.own_window();
    ASSERT_EQ(found.size(), from.size());
    for (int peer = 0; peer < ranks; ++peer) {
      if (peer == world().rank()) continue;
      for (std::int64_t i = 0; i < floats; ++i) {
        EXPECT_EQ(found[static_cast<std::size_t>(peer * floats + i)],
                  value_of(peer, world().rank(), i));
      }
    }
    world().barrier();
  }
}

}  // namespace
}  // namespace witan
