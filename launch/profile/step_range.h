// Which steps are profiled: the argument of `witan train --profile`.
#pragma once

#include <cstdint>
#include <string>

namespace witan {

// Steps of this process that are not profiled when only a count is given: buffers grow in them.
inline constexpr std::int64_t kProfileWarmUp = 3;

// "10:20": the steps 10 to 20, both included, numbered as in metrics.jsonl (the first is 1).
// "5": five steps behind a warm-up of kProfileWarmUp steps of this process.
struct StepRange {
  std::int64_t first = 0;  // 0: unknown until the run has started (a count was given)
  std::int64_t last = 0;
  std::int64_t count = 0;  // 0: first and last are given
};

// UserError if the text is neither.
StepRange parse_step_range(const std::string& text);

// first and last of a run that has done `done` of `steps` steps. UserError if the run ends before
// them or is past them.
StepRange resolve(const StepRange& range, std::int64_t done, std::int64_t steps);

}  // namespace witan
