// Protobuf text format into a message, past the first mistake. TextFormat::Parser stops at the
// first wrong value; this one reports every unknown name, wrong type and duplicate of a file, each
// with its path, and remembers where every field was written. Internal to configs/.
#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "configs/findings.h"

namespace witan::configs {

// Reads `text` into `message`, which stands at `path` (empty: the whole config). `kind`: a file or
// the value of an override. Only a syntax error ends the reading early; then false.
bool parse_text(const std::string& text, Origin::Kind kind, const std::string& path,
                google::protobuf::Message& message, Findings& findings);

// Reads "[a, b, ...]" or one element into the repeated field `field` of `message`, at `path`,
// whose entries it replaces.
void parse_list(const std::string& text, Origin::Kind kind, const std::string& path,
                const google::protobuf::FieldDescriptor& field, google::protobuf::Message& message,
                Findings& findings);

}  // namespace witan::configs
