// Trace files in the format of Chrome (chrome://tracing, Perfetto), one event a line: one file a
// rank, and all of them merged.
//
// A rank is a process: its thread 0 holds the phases and the waits, which nest; the collectives of
// each communicator are a thread of their own (several, where they overlap in time).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace witan {

struct TraceEvent {
  enum class Kind : std::uint8_t { kPhase, kWait, kCollective };
  Kind kind = Kind::kPhase;
  std::string name;
  std::string communicator;  // empty for phases
  double begin_us = 0.0;     // since the recording started on rank 0
  double duration_us = 0.0;
  std::int64_t step = 0;
  std::int64_t bytes = -1;  // collectives: what the rank sends to others
  int layer = -1;
  int thread = 0;

  double end_us() const { return begin_us + duration_us; }
};

struct RankTrace {
  int rank = 0, ranks = 1;
  int expert_parallel = 1;
  std::string host;
  std::int64_t first_step = 0, last_step = 0;  // profiled
  double clock_offset_us = 0.0;                // already taken off the events
  double clock_uncertainty_us = 0.0;
  std::int64_t lost_events = 0;  // the recording had no room for them
  std::vector<TraceEvent> events;
};

// RUN/profile/rank-00003.json
std::string profile_folder(const std::string& run_folder);
std::string rank_trace_path(const std::string& run_folder, int rank);

// UserError if the file cannot be written.
void write_trace(const std::string& path, const RankTrace& trace);
void write_merged_trace(const std::string& path, const std::vector<RankTrace>& traces);

// The traces of all ranks of the run's newest profile, by rank. UserError on a missing or foreign
// file.
std::vector<RankTrace> read_traces(const std::string& run_folder);

}  // namespace witan
