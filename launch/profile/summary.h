// What a profile says in figures: time by phase and by layer, and what the collectives moved.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/profile/trace_file.h"

namespace witan {

// All times per step: mean over the profiled steps.
struct PhaseFigures {
  std::string name;
  double ms = 0.0;        // mean over ranks, without the phases inside it
  double wait_ms = 0.0;   // of it: waiting for collectives
  double worst_ms = 0.0;  // of the rank that spends most
  double calls = 0.0;     // of one rank
};

struct LayerFigures {
  int layer = 0;
  std::vector<double> ms;  // one per ProfileSummary::layer_phases, forward and backward together
  double total_ms = 0.0;
};

struct CollectiveFigures {
  std::string name, communicator;
  double calls = 0.0;     // of one rank
  double bytes = 0.0;     // that one rank sends to others
  double ms = 0.0;        // from start to end, mean over ranks; may overlap with computing
  double wait_ms = 0.0;   // of it: the rank only waited
  double gb_per_s = 0.0;  // bytes / ms
};

struct ProfileSummary {
  int ranks = 1, expert_parallel = 1;
  std::int64_t first_step = 0, last_step = 0;
  double step_ms = 0.0;  // mean over steps and ranks
  std::int64_t lost_events = 0;
  double clock_uncertainty_us = 0.0;      // the largest of all ranks
  std::vector<PhaseFigures> phases;       // of the steps; largest first
  std::vector<PhaseFigures> beside;       // between steps: evaluation, checkpoint
  std::vector<std::string> layer_phases;  // largest first
  std::vector<LayerFigures> layers;
  std::vector<CollectiveFigures> collectives;  // largest first
};

ProfileSummary summarize_profile(const std::vector<RankTrace>& traces);

// Tables for people, and JSON (keys: docs/metrics.md, "witan profile --json").
std::string profile_text(const ProfileSummary& summary);
std::string profile_json(const ProfileSummary& summary);

}  // namespace witan
