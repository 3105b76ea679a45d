#include "configs/load.h"

#include <google/protobuf/descriptor.h>

#include <optional>

#include "configs/findings.h"
#include "configs/granularity.h"
#include "configs/override.h"
#include "configs/read_config_file.h"
#include "configs/text_parser.h"
#include "configs/validate.h"

namespace witan::configs {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void collect_origins(const Message& message, const std::string& path, const Findings& findings,
                     std::map<std::string, Origin>& origins) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> set;
  reflection.ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    const bool repeated = field->is_repeated();
    const int count = repeated ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const std::string child = child_path(path, field->name(), repeated ? i : -1);
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        collect_origins(repeated ? reflection.GetRepeatedMessage(message, field, i)
                                 : reflection.GetMessage(message, field),
                        child, findings, origins);
      } else {
        origins[child] = findings.nearest(child);
      }
    }
  }
}

}  // namespace

LoadedConfig load(const std::string& text, const std::string& file,
                  const std::vector<std::string>& overrides, const std::vector<Check>& checks) {
  LoadedConfig config;
  config.file = file;
  Findings findings(file);
  // Behind a syntax error nothing has been read: what seems missing may well be there.
  if (parse_text(text, Origin::Kind::kFile, "", config.run, findings)) {
    for (const std::string& assignment : overrides) {
      apply_override(assignment, config.run, findings);
    }
    validate(config.run, "", findings);
    // Checks that combine fields may rely on each field by itself.
    if (findings.values_are_sound()) config.derived = apply_granularity(config.run, findings);
    if (findings.values_are_sound()) {
      const Fail fail = [&findings](const std::string& field, const std::string& message) {
        findings.fail(field, message);
      };
      for (const Check& check : checks) check(config.run, fail);
    }
  }
  collect_origins(config.run, "", findings, config.origins);
  config.errors = findings.sorted_errors();
  return config;
}

LoadedConfig load_file(const std::string& path, const std::vector<std::string>& overrides,
                       const std::vector<Check>& checks) {
  LoadedConfig config;
  config.file = path;
  const std::optional<std::string> text = read_config_file(path, config.errors);
  return text ? load(*text, path, overrides, checks) : config;
}

}  // namespace witan::configs
