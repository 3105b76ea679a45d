// Trace files: what is written is read back, and a viewer can show it.
#include "launch/profile/trace_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Kind = TraceEvent::Kind;

class TraceFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    run_ = (fs::temp_directory_path() / "witan-trace-XXXXXX").string();
    ASSERT_NE(::mkdtemp(run_.data()), nullptr);
    fs::create_directories(profile_folder(run_));
  }
  void TearDown() override { fs::remove_all(run_); }

  std::string run_;
};

RankTrace two_transfers(int rank) {
  RankTrace trace;
  trace.rank = rank;
  trace.ranks = 2;
  trace.host = "node \"7\"";
  trace.first_step = trace.last_step = 4;
  trace.clock_offset_us = 12.5 * rank;
  trace.events.push_back({.kind = Kind::kPhase,
                          .name = "router",
                          .communicator = "",
                          .begin_us = 5.25,
                          .duration_us = 2.0,
                          .step = 4,
                          .layer = 2});
  trace.events.push_back({.kind = Kind::kWait,
                          .name = "all_reduce",
                          .communicator = "world",
                          .begin_us = 8.0,
                          .duration_us = 1.0,
                          .step = 4});
  // Two that overlap in time.
  for (const double begin : {6.0, 7.0}) {
    trace.events.push_back({.kind = Kind::kCollective,
                            .name = "all_reduce",
                            .communicator = "world",
                            .begin_us = begin,
                            .duration_us = 2.0,
                            .step = 4,
                            .bytes = 1000});
  }
  return trace;
}

void expect_same(const TraceEvent& a, const TraceEvent& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.communicator, b.communicator);
  EXPECT_EQ(a.begin_us, b.begin_us);
  EXPECT_EQ(a.duration_us, b.duration_us);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.bytes, b.bytes);
  EXPECT_EQ(a.layer, b.layer);
}

TEST_F(TraceFileTest, IsReadBack) {
  for (const int rank : {0, 1}) write_trace(rank_trace_path(run_, rank), two_transfers(rank));
  const std::vector<RankTrace> traces = read_traces(run_);
  ASSERT_EQ(traces.size(), 2u);
  for (const int rank : {0, 1}) {
    const RankTrace& found = traces[static_cast<std::size_t>(rank)];
    const RankTrace expected = two_transfers(rank);
    EXPECT_EQ(found.rank, rank);
    EXPECT_EQ(found.host, expected.host);
    EXPECT_EQ(found.clock_offset_us, expected.clock_offset_us);
    ASSERT_EQ(found.events.size(), expected.events.size());
    // In the file they stand in the order of their beginnings.
    for (const std::size_t i : {0u, 1u, 2u, 3u}) {
      expect_same(found.events[i], expected.events[std::vector<std::size_t>{0, 2, 3, 1}[i]]);
    }
  }
}

TEST_F(TraceFileTest, EventsOfOneThreadNestOrFollowEachOther) {
  const std::string path = run_ + "/trace.json";
  write_merged_trace(path, {two_transfers(0), two_transfers(1)});
  const Json json = Json::parse(std::ifstream(path));
  std::map<std::pair<int, int>, std::string> names;
  std::map<std::pair<int, int>, double> ends;
  int events = 0;
  for (const Json& e : json["traceEvents"]) {
    const std::pair<int, int> thread = {e["pid"], e["tid"]};
    if (e["ph"] == "M" && e["name"] == "thread_name") names[thread] = e["args"]["name"];
    if (e["ph"] != "X") continue;
    ++events;
    EXPECT_GE(e["ts"].get<double>(), ends[thread]) << e.dump();
    ends[thread] = e["ts"].get<double>() + e["dur"].get<double>();
  }
  EXPECT_EQ(events, 8);
  EXPECT_EQ(ends.size(), 6u) << "two ranks with a thread and two lanes of one communicator";
  for (const auto& [thread, end] : ends) EXPECT_TRUE(names.contains(thread)) << thread.second;
}

TEST_F(TraceFileTest, SaysWhatIsMissing) {
  EXPECT_THROW(read_traces(run_), UserError) << "no profile at all";
  write_trace(rank_trace_path(run_, 0), two_transfers(0));
  EXPECT_THROW(read_traces(run_), UserError) << "rank 1's is missing";
  std::ofstream(rank_trace_path(run_, 1)) << "{}";
  EXPECT_THROW(read_traces(run_), UserError) << "not a trace";
}

}  // namespace
}  // namespace witan
