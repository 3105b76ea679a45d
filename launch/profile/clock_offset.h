// How far the clock of this rank is ahead of rank 0's, so that the traces of all ranks lie on one
// time axis.
#pragma once

#include <cstdint>

#include "core/base/profile.h"
#include "parallel/communicator.h"

namespace witan {

struct ClockOffset {
  std::int64_t offset_ns = 0;       // this rank's clock - rank 0's
  std::int64_t uncertainty_ns = 0;  // the offset is known to lie within +- this
};

// Collective; `clock` is this rank's (tests pretend others). Nobody leaves a barrier before
// everybody has entered it: each barrier bounds the offset from both sides, and the narrowest
// bounds of many count. An offset of 0 (one clock for a node) is taken where the bounds allow it.
ClockOffset align_clocks(Communicator& world, std::int64_t (*clock)() = profile_clock_ns);

}  // namespace witan
