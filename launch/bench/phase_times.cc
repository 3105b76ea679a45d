#include "launch/bench/phase_times.h"

#include <algorithm>

#include "core/base/error.h"

namespace witan {
namespace {

double seconds_of(const ProfileEvent& event) {
  return static_cast<double>(event.end_ns - event.begin_ns) * 1e-9;
}

// Phases of the thread that takes the step, which waits for the others in a phase of its own.
bool counts(const ProfileEvent& event) {
  return event.kind != ProfileEvent::Kind::kCollective && event.thread == 0;
}

}  // namespace

void PhaseTimes::collect() {
  std::vector<ProfileEvent> events;
  const std::int64_t lost = take_profile_events(events);
  WITAN_CHECK(lost == 0, lost, " events of a profile were lost");
  events.erase(std::remove_if(events.begin(), events.end(),
                              [](const ProfileEvent& event) { return !counts(event); }),
               events.end());
  std::map<std::string, double> own;
  // Events stand in the order of their ends: what is inside a scope stands before it, and what of
  // it was not claimed by a scope further in is claimed now.
  std::vector<const ProfileEvent*> unclaimed;
  for (const ProfileEvent& event : events) {
    double seconds = seconds_of(event);
    for (auto inner = unclaimed.begin(); inner != unclaimed.end();) {
      const bool inside = (*inner)->begin_ns >= event.begin_ns;
      if (inside) seconds -= seconds_of(**inner);
      inner = inside ? unclaimed.erase(inner) : inner + 1;
    }
    unclaimed.push_back(&event);
    own[event.name] += seconds;
    if (seconds_.try_emplace(event.name).second) order_.emplace_back(event.name);
  }
  for (const auto& [name, seconds] : own) seconds_[name].push_back(seconds);
}

std::vector<PhaseTimes::Phase> PhaseTimes::phases() const {
  std::vector<Phase> phases;
  double sum = 0.0;
  for (const std::string& name : order_) {
    phases.push_back({name, spread_of(seconds_.at(name))});
    sum += phases.back().seconds.median;
  }
  for (Phase& phase : phases) phase.share = phase.seconds.median / sum;
  return phases;
}

}  // namespace witan
