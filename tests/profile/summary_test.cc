// Figures from traces made by hand.
#include "launch/profile/summary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "launch/profile/phase_times.h"

namespace witan {
namespace {

using Kind = TraceEvent::Kind;

TraceEvent event(Kind kind, const std::string& name, double begin_us, double end_us, int layer = -1,
                 const std::string& communicator = "", std::int64_t bytes = -1) {
  TraceEvent e;
  e.kind = kind;
  e.name = name;
  e.begin_us = begin_us;
  e.duration_us = end_us - begin_us;
  e.layer = layer;
  e.communicator = communicator;
  e.bytes = bytes;
  return e;
}

// Two steps of 1000 us; `slow`: how much longer the attention of layer 1 takes. Inner events first,
// as they end.
RankTrace trace_of(int rank, double slow) {
  RankTrace trace;
  trace.rank = rank;
  trace.ranks = 2;
  trace.first_step = 11;
  trace.last_step = 12;
  trace.lost_events = rank;
  for (const double t : {0.0, 2000.0}) {
    auto& events = trace.events;
    events.push_back(event(Kind::kPhase, "attention", t + 100, t + 300, 0));
    events.push_back(event(Kind::kPhase, "attention", t + 300, t + 400 + slow, 1));  // at its heels
    events.push_back(event(Kind::kPhase, "forward", t + 100, t + 600));
    events.push_back(event(Kind::kWait, "all_to_all_v", t + 650, t + 700, 1, "expert"));
    events.push_back(
        event(Kind::kCollective, "all_to_all_v", t + 500, t + 700, 1, "expert", 400000));
    events.push_back(event(Kind::kPhase, "attention backward", t + 620, t + 720, 1));
    events.push_back(event(Kind::kPhase, "backward", t + 600, t + 900));
    events.push_back(event(Kind::kPhase, "step", t, t + 1000));
  }
  // Evaluation between the steps.
  trace.events.push_back(event(Kind::kPhase, "attention", 1100, 1200, 0));
  trace.events.push_back(event(Kind::kWait, "all_reduce", 1200, 1250, -1, "world"));
  trace.events.push_back(event(Kind::kCollective, "all_reduce", 1200, 1250, -1, "world", 8));
  trace.events.push_back(event(Kind::kPhase, "evaluation", 1100, 1300));
  return trace;
}

const PhaseFigures& phase(const std::vector<PhaseFigures>& phases, const std::string& name) {
  static const PhaseFigures none;
  const auto found = std::find_if(phases.begin(), phases.end(),
                                  [&](const PhaseFigures& p) { return p.name == name; });
  EXPECT_NE(found, phases.end()) << name;
  return found == phases.end() ? none : *found;
}

TEST(ProfileSummary, PhasesAddUpToTheStep) {
  const ProfileSummary s = summarize_profile({trace_of(0, 0.0), trace_of(1, 100.0)});
  EXPECT_NEAR(s.step_ms, 1.0, 1e-9);
  EXPECT_EQ(s.lost_events, 1);
  double sum = 0.0;
  for (const PhaseFigures& p : s.phases) sum += p.ms;
  EXPECT_NEAR(sum, s.step_ms, 1e-9);
  EXPECT_NEAR(phase(s.phases, "attention").ms, 0.35, 1e-9);
  EXPECT_NEAR(phase(s.phases, "attention").worst_ms, 0.4, 1e-9);
  EXPECT_NEAR(phase(s.phases, "attention").calls, 2.0, 1e-9) << "not those of the evaluation";
  EXPECT_NEAR(phase(s.phases, "forward").ms, 0.15, 1e-9) << "without the attention inside it";
  EXPECT_NEAR(phase(s.phases, "attention backward").wait_ms, 0.05, 1e-9);
  EXPECT_NEAR(phase(s.phases, "step").ms, 0.2, 1e-9);
}

TEST(ProfileSummary, WhatRunsBetweenStepsStandsApart) {
  const ProfileSummary s = summarize_profile({trace_of(0, 0.0), trace_of(1, 0.0)});
  ASSERT_EQ(s.beside.size(), 1u);
  EXPECT_EQ(s.beside[0].name, "evaluation");
  EXPECT_NEAR(s.beside[0].ms, 0.1, 1e-9);
  EXPECT_NEAR(s.beside[0].wait_ms, 0.025, 1e-9);
}

TEST(ProfileSummary, LayersAndCollectives) {
  const ProfileSummary s = summarize_profile({trace_of(0, 0.0), trace_of(1, 0.0)});
  ASSERT_EQ(s.layers.size(), 2u);
  ASSERT_EQ(s.layer_phases, std::vector<std::string>{"attention"});
  EXPECT_NEAR(s.layers[0].total_ms, 0.2, 1e-9);
  EXPECT_NEAR(s.layers[1].total_ms, 0.2, 1e-9) << "forward and backward";
  ASSERT_EQ(s.collectives.size(), 1u) << "those of steps only";
  const CollectiveFigures& c = s.collectives[0];
  EXPECT_EQ(c.name + " " + c.communicator, "all_to_all_v expert");
  EXPECT_NEAR(c.calls, 1.0, 1e-9);
  EXPECT_NEAR(c.bytes, 400000.0, 1e-6);
  EXPECT_NEAR(c.ms, 0.2, 1e-9);
  EXPECT_NEAR(c.wait_ms, 0.05, 1e-9);
  EXPECT_NEAR(c.gb_per_s, 2.0, 1e-9) << "400,000 bytes in 200 us";
}

TEST(ProfileSummary, TextAndJsonSayTheSame) {
  const ProfileSummary s = summarize_profile({trace_of(0, 0.0), trace_of(1, 0.0)});
  const std::string text = profile_text(s);
  for (const char* part : {"steps 11 to 12, 2 ranks", "rest of forward", "evaluation",
                           "all_to_all_v", "WARNING: 1 events"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
  const auto json = nlohmann::json::parse(profile_json(s));
  EXPECT_NEAR(json["layers"][1]["phases"]["attention"].get<double>(), 0.2, 1e-9);
  EXPECT_NEAR(json["collectives"][0]["gb_per_s"].get<double>(), 2.0, 1e-9);
  EXPECT_EQ(json["between_steps"][0]["name"], "evaluation");
}

}  // namespace
}  // namespace witan
