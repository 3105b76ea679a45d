// The effective and the explicit config as text.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include "configs/findings.h"
#include "configs/load.h"
#include "configs/schema/options.pb.h"
#include "configs/validate.h"

namespace witan::configs {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

// Whether the message means something else absent than present with defaults.
bool absent_differs(const FieldDescriptor& field) {
  if (field.options().GetExtension(absent_is_none)) return true;
  const Descriptor& type = *field.message_type();
  for (int i = 0; i < type.field_count(); ++i) {
    if (type.field(i)->options().GetExtension(required)) return true;
  }
  return false;
}

class EffectivePrinter {
 public:
  explicit EffectivePrinter(const LoadedConfig& config) : config_(config) {}

  std::string print() {
    fields(config_.run, "", "");
    return std::move(text_);
  }

 private:
  void fields(const Message& message, const std::string& path, const std::string& indent) {
    const Reflection& reflection = *message.GetReflection();
    const Descriptor& type = *message.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      const std::string child = child_path(path, field.name());
      if (field.is_repeated()) {
        const int size = reflection.FieldSize(message, &field);
        if (size == 0) absent(field, indent);
        for (int j = 0; j < size; ++j) {
          const std::string element = child_path(path, field.name(), j);
          if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
            block(field, reflection.GetRepeatedMessage(message, &field, j), element, indent);
          } else {
            scalar(message, field, j, element, indent);
          }
        }
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        sub_message(message, field, child, indent);
      } else if (reflection.HasField(message, &field) ||
                 (field.has_default_value() && excluding_field(message, field) == nullptr)) {
        scalar(message, field, -1, child, indent);
      } else {
        absent(field, indent);
      }
    }
  }

  void sub_message(const Message& message, const FieldDescriptor& field, const std::string& path,
                   const std::string& indent) {
    const Reflection& reflection = *message.GetReflection();
    if (reflection.HasField(message, &field)) {
      block(field, reflection.GetMessage(message, &field), path, indent);
    } else if (field.real_containing_oneof() == nullptr && !absent_differs(field)) {
      // An absent message answers its defaults, which GetMessage() gives too.
      block(field, reflection.GetMessage(message, &field), path, indent);
    } else if (field.real_containing_oneof() == nullptr) {
      absent(field, indent);
    }
  }

  void block(const FieldDescriptor& field, const Message& message, const std::string& path,
             const std::string& indent) {
    text_ += indent + field.name() + " {\n";
    fields(message, path, indent + "  ");
    text_ += indent + "}\n";
  }

  void scalar(const Message& message, const FieldDescriptor& field, int index,
              const std::string& path, const std::string& indent) {
    std::string value;
    TextFormat::PrintFieldValueToString(message, &field, index, &value);
    text_ += indent + field.name() + ": " + value + "  # " + origin(path) + "\n";
  }

  void absent(const FieldDescriptor& field, const std::string& indent) {
    text_ += indent + "# " + field.name() + ": not set\n";
  }

  std::string origin(const std::string& path) const {
    const auto it = config_.origins.find(path);
    if (it == config_.origins.end()) return "default";
    const std::string written = it->second.kind == Origin::Kind::kOverride
                                    ? "--set"
                                    : config_.file + ":" + std::to_string(it->second.line);
    const auto derived = config_.derived.find(path);
    return derived == config_.derived.end() ? written : written + ", " + derived->second;
  }

  const LoadedConfig& config_;
  std::string text_;
};

}  // namespace

std::string print_effective(const LoadedConfig& config) { return EffectivePrinter(config).print(); }

std::string print_explicit(const RunConfig& run) {
  std::string text;
  TextFormat::PrintToString(run, &text);
  return text;
}

}  // namespace witan::configs
