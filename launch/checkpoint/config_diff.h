// Where two configs say different things.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

namespace witan {

struct ConfigDifference {
  std::string field;        // dotted path, "model.moe.balance[0].expert_bias.rate"
  std::string left, right;  // "(absent)" for a field that is not set and has no default
};

// Both of the same message type. A field that is absent equals its schema default. `path` stands in
// front of the field names.
std::vector<ConfigDifference> config_differences(const google::protobuf::Message& left,
                                                 const google::protobuf::Message& right,
                                                 const std::string& path);

}  // namespace witan
