// The checks that the schema's options ask for. Internal to configs/.
#pragma once

#include <google/protobuf/descriptor.h>
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

// The field that takes this one's place (option excluded_by) and is set; null: none.
const google::protobuf::FieldDescriptor* excluding_field(
    const google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field);

// Required fields, ranges, required choices and exclusions of `message` (at `path`; empty: the
// whole config) and all that is set below it.
void validate(const google::protobuf::Message& message, const std::string& path,
              Findings& findings);

}  // namespace witan::configs
