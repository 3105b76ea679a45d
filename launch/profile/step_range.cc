#include "launch/profile/step_range.h"

#include <charconv>
#include <optional>
#include <string_view>

#include "core/base/error.h"

namespace witan {
namespace {

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

StepRange parse_step_range(const std::string& text) {
  const std::size_t colon = text.find(':');
  StepRange range;
  if (colon == std::string::npos) {
    const auto count = whole_number(text);
    if (count && *count >= 1) {
      range.count = *count;
      return range;
    }
  } else {
    const std::string_view view = text;
    const auto first = whole_number(view.substr(0, colon));
    const auto last = whole_number(view.substr(colon + 1));
    if (first && last && *first >= 1 && *last >= *first) {
      range.first = *first;
      range.last = *last;
      return range;
    }
  }
  throw_user_error("--profile: found \"", text,
                   "\"; expected FIRST:LAST with 1 <= FIRST <= LAST, such as 10:20, or a number of "
                   "steps, such as 5");
}

StepRange resolve(const StepRange& range, std::int64_t done, std::int64_t steps) {
  StepRange result = range;
  if (range.count > 0) {
    result.first = done + kProfileWarmUp + 1;
    result.last = done + kProfileWarmUp + range.count;
  }
  if (result.first <= done) {
    throw_user_error("--profile: step ", result.first, " is over, the run is at step ", done,
                     "; name a later one");
  }
  if (result.last > steps) {
    throw_user_error("--profile: the steps ", result.first, " to ", result.last,
                     " were asked for, but the run ends at train.steps = ", steps);
  }
  return result;
}

}  // namespace witan
