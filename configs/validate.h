// The checks that the schema's options ask for. Internal to configs/.
#pragma once

#include <google/protobuf/message.h>

#include <optional>
#include <string>

#include "configs/findings.h"

namespace witan::configs {

// The option `range`: an interval such as "(0, 1]" or "[1, inf)".
struct Range {
  double low = 0.0, high = 0.0;
  bool with_low = true, with_high = true;

  // NaN is in no range.
  bool contains(double value) const {
    return (with_low ? value >= low : value > low) && (with_high ? value <= high : value < high);
  }
};

// Nothing if `text` is not an interval.
std::optional<Range> parse_range(const std::string& text);

// Required fields, ranges and required choices of `message` (at `path`; empty: the whole config)
// and all that is set below it.
void validate(const google::protobuf::Message& message, const std::string& path,
              Findings& findings);

}  // namespace witan::configs
