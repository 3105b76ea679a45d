#include "launch/profile/phase_times.h"

#include <algorithm>

namespace witan {
namespace {

using Kind = TraceEvent::Kind;

// Times are whole nanoseconds, but for the rounding of microseconds.
constexpr double kHalfNanosecond = 0.5e-3;

// Follows the phases that are open as events come in the order of their beginnings.
class OpenPhases {
 public:
  explicit OpenPhases(RankTimes& times) : times_(times) {}

  void add(const TraceEvent& event) {
    while (!open_.empty() && open_.back()->end_us() <= event.begin_us + kHalfNanosecond) {
      open_.pop_back();
    }
    const bool whole = !open_.empty() && open_.front()->name != kStepPhase;  // between steps
    if (event.kind == Kind::kWait) {
      if (!open_.empty()) of(whole ? *open_.front() : *open_.back()).wait_us += event.duration_us;
      return;
    }
    if (whole) return;
    if (!open_.empty()) of(*open_.back()).own_us -= event.duration_us;
    open_.push_back(&event);
    PhaseTime& phase = of(event);
    phase.own_us += event.duration_us;
    ++phase.calls;
  }

 private:
  PhaseTime& of(const TraceEvent& event) {
    PhaseTimes& times = open_.front()->name == kStepPhase ? times_.inside : times_.beside;
    return times[{event.name, event.layer}];
  }

  RankTimes& times_;
  std::vector<const TraceEvent*> open_;  // outermost first
};

// Beginnings in order; a phase before what lies inside it.
void sort_by_begin(std::vector<const TraceEvent*>& events) {
  std::stable_sort(events.begin(), events.end(), [](const TraceEvent* a, const TraceEvent* b) {
    if (a->begin_us != b->begin_us) return a->begin_us < b->begin_us;
    return a->duration_us > b->duration_us;
  });
}

}  // namespace

RankTimes phase_times(const RankTrace& trace) {
  std::vector<const TraceEvent*> events;
  for (const TraceEvent& event : trace.events) {
    if (event.kind != Kind::kCollective && event.thread == 0) events.push_back(&event);
  }
  sort_by_begin(events);
  RankTimes times;
  OpenPhases open(times);
  for (const TraceEvent* event : events) open.add(*event);
  return times;
}

std::vector<const TraceEvent*> collectives_of_steps(const RankTrace& trace) {
  std::vector<const TraceEvent*> events;
  for (const TraceEvent& event : trace.events) {
    const bool step = event.kind == Kind::kPhase && event.name == kStepPhase;
    if (step || event.kind != Kind::kPhase) events.push_back(&event);
  }
  sort_by_begin(events);
  double end_of_step = -1.0;
  std::vector<const TraceEvent*> inside;
  for (const TraceEvent* event : events) {
    if (event->kind == Kind::kPhase) {
      end_of_step = event->end_us();
    } else if (event->begin_us < end_of_step) {
      inside.push_back(event);
    }
  }
  return inside;
}

}  // namespace witan
