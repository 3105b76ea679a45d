// Recording: nothing while off, phases and transfers with their layer while on, the oldest events
// lost where there are too many.
#include "core/base/profile.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "core/base/current_layer.h"

namespace witan {
namespace {

using Kind = ProfileEvent::Kind;

std::vector<ProfileEvent> taken() {
  std::vector<ProfileEvent> events;
  EXPECT_EQ(take_profile_events(events), 0);
  return events;
}

class ProfileTest : public ::testing::Test {
 protected:
  void SetUp() override { start_profiling(16); }
  void TearDown() override { stop_profiling(); }
};

TEST_F(ProfileTest, ScopesNestAndKnowTheirLayer) {
  {
    const ProfileScope outer("outer");
    const LayerScope layer(3);
    const ProfileScope inner("inner");
  }
  const std::vector<ProfileEvent> events = taken();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_STREQ(events[0].name, "inner");
  EXPECT_EQ(events[0].layer, 3);
  EXPECT_STREQ(events[1].name, "outer");
  EXPECT_EQ(events[1].layer, -1);
  EXPECT_EQ(events[0].kind, Kind::kPhase);
  EXPECT_LE(events[1].begin_ns, events[0].begin_ns);
  EXPECT_LE(events[0].begin_ns, events[0].end_ns);
  EXPECT_LE(events[0].end_ns, events[1].end_ns);
  EXPECT_TRUE(taken().empty()) << "an event is taken once";
}

TEST_F(ProfileTest, ATransferKeepsTheLayerOfItsStart) {
  ProfileTransfer transfer;
  {
    const LayerScope layer(5);
    transfer.start(640);
  }
  { const ProfileScope wait("all_to_all_v", "expert"); }
  transfer.finish("all_to_all_v", "expert");
  transfer.finish("all_to_all_v", "expert");
  const std::vector<ProfileEvent> events = taken();
  ASSERT_EQ(events.size(), 2u) << "finished once, recorded once";
  EXPECT_EQ(events[0].kind, Kind::kWait);
  EXPECT_EQ(events[1].kind, Kind::kCollective);
  EXPECT_EQ(events[1].layer, 5);
  EXPECT_EQ(events[1].bytes, 640);
  EXPECT_STREQ(events[1].communicator, "expert");
  EXPECT_LE(events[1].begin_ns, events[0].begin_ns);
}

TEST_F(ProfileTest, OfTooManyTheOldestAreLost) {
  const char* const names[] = {"0", "1", "2", "3"};
  for (int i = 0; i < 20; ++i) {
    const ProfileScope scope(names[i / 5]);
  }
  std::vector<ProfileEvent> events;
  EXPECT_EQ(take_profile_events(events), 4);
  ASSERT_EQ(events.size(), 16u);
  EXPECT_STREQ(events.front().name, "0");
  EXPECT_STREQ(events[1].name, "1");
  EXPECT_STREQ(events.back().name, "3");
  { const ProfileScope scope("again"); }
  EXPECT_EQ(taken().size(), 1u);
}

TEST_F(ProfileTest, ThreadsAreToldApart) {
  { const ProfileScope scope("here"); }
  std::thread([] { const ProfileScope scope("there"); }).join();
  const std::vector<ProfileEvent> events = taken();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_NE(events[0].thread, events[1].thread);
}

TEST_F(ProfileTest, WhatIsOpenWhenItStopsIsNotRecorded) {
  {
    const ProfileScope scope("cut");
    stop_profiling();
  }
  EXPECT_TRUE(taken().empty());
  start_profiling(4);
  EXPECT_ANY_THROW(start_profiling(4)) << "one recording at a time";
}

TEST(ProfileOff, RecordsNothing) {
  EXPECT_FALSE(profiling());
  { const ProfileScope scope("off"); }
  ProfileTransfer transfer;
  transfer.start(1);
  start_profiling(4);
  transfer.finish("begun before", "world");
  stop_profiling();
  EXPECT_TRUE(taken().empty());
}

}  // namespace
}  // namespace witan
