#include "launch/profile/step_profiler.h"

#include <unistd.h>

#include <array>
#include <filesystem>

#include "core/base/error.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

// Events of one step with what follows it, six for each expert of a layer and micro-batch among
// them; they are taken out after each. 12 MiB.
constexpr std::size_t kEventsPerStep = std::size_t{1} << 18;

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

// Traces of an earlier profile, perhaps of more ranks, would be merged with those of this one.
void remove_old_traces(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_user_error("--profile: cannot make ", folder, ": ", error.message());
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("rank-") && name.ends_with(".json")) fs::remove(entry.path());
  }
}

double microseconds(std::int64_t ns) { return static_cast<double>(ns) * 1e-3; }

TraceEvent::Kind kind_of(ProfileEvent::Kind kind) {
  switch (kind) {
    case ProfileEvent::Kind::kPhase: return TraceEvent::Kind::kPhase;
    case ProfileEvent::Kind::kWait: return TraceEvent::Kind::kWait;
    default: return TraceEvent::Kind::kCollective;
  }
}

}  // namespace

StepProfiler::StepProfiler(const StepRange& range, std::string run_folder, const Mesh& mesh)
    : range_(range), run_folder_(std::move(run_folder)), mesh_(mesh) {
  trace_.rank = mesh.world_rank();
  trace_.ranks = mesh.world_size();
  trace_.expert_parallel = mesh.expert_parallel();
  trace_.host = host_name();
}

StepProfiler::~StepProfiler() {
  if (recording_) stop_profiling();
}

void StepProfiler::start() {
  Communicator& world = mesh_.world();
  if (mesh_.world_rank() == 0) remove_old_traces(profile_folder(run_folder_));
  world.barrier();
  const ClockOffset clock = align_clocks(world);
  trace_.clock_offset_us = microseconds(clock.offset_ns);
  trace_.clock_uncertainty_us = microseconds(clock.uncertainty_ns);
  origin_ns_ = profile_clock_ns();
  world.broadcast(view_of(&origin_ns_, {1}), 0).wait();
  origin_ns_ += clock.offset_ns;
  trace_.first_step = range_.first;
  start_profiling(kEventsPerStep);
  recording_ = true;
}

void StepProfiler::begin(std::int64_t step) {
  if (step == range_.first) start();
}

void StepProfiler::take(std::int64_t step) {
  events_.clear();
  trace_.lost_events += take_profile_events(events_);
  for (const ProfileEvent& event : events_) {
    TraceEvent& out = trace_.events.emplace_back();
    out.kind = kind_of(event.kind);
    out.name = event.name;
    if (event.communicator != nullptr) out.communicator = event.communicator;
    out.begin_us = microseconds(event.begin_ns - origin_ns_);
    out.duration_us = microseconds(event.end_ns - event.begin_ns);
    out.step = step;
    out.bytes = event.bytes;
    out.layer = event.layer;
    out.thread = event.thread;
  }
}

bool StepProfiler::end(std::int64_t step) {
  if (!recording_) return false;
  take(step);
  trace_.last_step = step;
  return step == range_.last && finish();
}

bool StepProfiler::finish() {
  if (!recording_) return false;
  stop_profiling();
  recording_ = false;
  if (trace_.last_step == 0) return false;  // not one step came to its end
  write_trace(rank_trace_path(run_folder_, trace_.rank), trace_);
  trace_.events.clear();
  mesh_.world().barrier();  // all files are there
  return true;
}

}  // namespace witan
