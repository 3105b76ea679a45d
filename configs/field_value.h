// One value of one field: from text, and what would have been right. Internal to configs/.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>

namespace witan::configs {

// "an integer", "true or false", "one of RMSNORM, LAYERNORM", ...
std::string expectation(const google::protobuf::FieldDescriptor& field);

// Sets (or, for a repeated field, appends) a scalar written in Protobuf's text format. Returns what
// is wrong with it; empty: nothing.
std::string set_scalar(const google::protobuf::FieldDescriptor& field, const std::string& text,
                       google::protobuf::Message& message);

// The message for a name that `type` does not have, with the nearest it has.
std::string unknown_field(const google::protobuf::Descriptor& type, const std::string& name);

}  // namespace witan::configs
