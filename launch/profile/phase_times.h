// From the events of one rank to its time by phase: each instant of the program's thread belongs to
// the innermost phase that runs, so that the phases add up to the whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "launch/profile/trace_file.h"

namespace witan {

struct PhaseTime {
  double own_us = 0.0;   // of it, without the phases inside; its waits included
  double wait_us = 0.0;  // of own_us: waiting for collectives
  std::int64_t calls = 0;

  PhaseTime& operator+=(const PhaseTime& other) {
    own_us += other.own_us;
    wait_us += other.wait_us;
    calls += other.calls;
    return *this;
  }
};

// The phase that training steps are.
inline constexpr const char* kStepPhase = "step";

// Key: name, layer (-1: none).
using PhaseTimes = std::map<std::pair<std::string, int>, PhaseTime>;

// The phases of thread 0. `inside`: of training steps. `beside`: what runs between steps
// (evaluation, checkpoint), each as a whole.
struct RankTimes {
  PhaseTimes inside, beside;
};
RankTimes phase_times(const RankTrace& trace);

// The waits and collectives that began inside a training step.
std::vector<const TraceEvent*> collectives_of_steps(const RankTrace& trace);

}  // namespace witan
