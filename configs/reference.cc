// The Markdown reference of the schema, from the descriptors and comments compiled into the binary.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <set>
#include <stdexcept>
#include <vector>

#include "configs/load.h"
#include "configs/schema/machine.pb.h"
#include "configs/schema/options.pb.h"

namespace witan::configs {

// descriptors.cc, made by embed_file.cmake: a FileDescriptorSet with source info.
extern const unsigned char kSchemaDescriptors[];
extern const unsigned kSchemaDescriptors_size;

namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;
using google::protobuf::SourceLocation;

// The schema once more, with comments: the generated descriptors carry none.
void build_pool(DescriptorPool& pool) {
  FileDescriptorProto options;
  FileDescriptorProto::descriptor()->file()->CopyTo(&options);
  pool.BuildFile(options);
  FileDescriptorSet files;
  if (!files.ParseFromArray(kSchemaDescriptors, static_cast<int>(kSchemaDescriptors_size))) {
    throw std::logic_error("the schema in this binary cannot be read");
  }
  for (const FileDescriptorProto& file : files.file()) {
    if (pool.BuildFile(file) == nullptr) {
      throw std::logic_error("the schema in this binary is not consistent: " + file.name());
    }
  }
}

// The comment at a declaration, in one line.
template <class D>
std::string comment_of(const D& declaration) {
  SourceLocation location;
  if (!declaration.GetSourceLocation(&location)) return "";
  const std::string raw = location.leading_comments + location.trailing_comments;
  std::string text;
  for (const char c : raw) {
    const bool space = c == ' ' || c == '\n';
    if (space && (text.empty() || text.back() == ' ')) continue;
    if (c == '|') text += '\\';  // a column of the table otherwise
    text += space ? ' ' : c;
  }
  if (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

std::string anchor(const std::string& heading) {
  std::string text = heading;
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string type_of(const FieldDescriptor& field) {
  std::string name;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      name =
          "[" + field.message_type()->name() + "](#" + anchor(field.message_type()->name()) + ")";
      break;
    case FieldDescriptor::CPPTYPE_ENUM: name = field.enum_type()->name(); break;
    default: name = field.type_name();
  }
  return field.is_repeated() ? "list of " + name : name;
}

std::string default_of(const FieldDescriptor& field) {
  if (field.options().GetExtension(required)) return "required";
  if (!field.has_default_value()) return "";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL: return field.default_value_bool() ? "true" : "false";
    case FieldDescriptor::CPPTYPE_INT64: return std::to_string(field.default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT64: return std::to_string(field.default_value_uint64());
    case FieldDescriptor::CPPTYPE_INT32: return std::to_string(field.default_value_int32());
    case FieldDescriptor::CPPTYPE_UINT32: return std::to_string(field.default_value_uint32());
    case FieldDescriptor::CPPTYPE_FLOAT:
      return google::protobuf::TextFormat::FieldValuePrinter().PrintFloat(
          field.default_value_float());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return google::protobuf::TextFormat::FieldValuePrinter().PrintDouble(
          field.default_value_double());
    case FieldDescriptor::CPPTYPE_ENUM: return field.default_value_enum()->name();
    case FieldDescriptor::CPPTYPE_STRING: return "\"" + field.default_value_string() + "\"";
    case FieldDescriptor::CPPTYPE_MESSAGE: return "";
  }
  return "";
}

std::string values_of(const EnumDescriptor& type) {
  std::string text;
  for (int i = 0; i < type.value_count(); ++i) {
    const std::string comment = comment_of(*type.value(i));
    text += "<br>`" + type.value(i)->name() + "`" + (comment.empty() ? "" : ": " + comment);
  }
  return text;
}

std::string row_of(const FieldDescriptor& field) {
  std::string meaning = comment_of(field);
  const auto* choice = field.real_containing_oneof();
  if (choice != nullptr) meaning += " (One of `" + choice->name() + "`.)";
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) meaning += values_of(*field.enum_type());
  return "| `" + field.name() + "` | " + type_of(field) + " | " + default_of(field) + " | " +
         field.options().GetExtension(range) + " | " + field.options().GetExtension(unit) + " | " +
         meaning + " |\n";
}

std::string section_of(const Descriptor& type) {
  std::string text = "\n## " + type.name() + "\n\n";
  const std::string comment = comment_of(type);
  if (!comment.empty()) text += comment + "\n\n";
  text += "| Field | Type | Default | Range | Unit | Meaning |\n|---|---|---|---|---|---|\n";
  for (int i = 0; i < type.field_count(); ++i) text += row_of(*type.field(i));
  for (int i = 0; i < type.real_oneof_decl_count(); ++i) {
    const auto& choice = *type.oneof_decl(i);
    const bool must = choice.options().GetExtension(required_choice);
    text += "\n`" + choice.name() + "`: " + comment_of(choice) +
            (must ? " Exactly one is required.\n" : " At most one.\n");
  }
  return text;
}

// A message, then the messages of its fields, each once.
void append(const Descriptor& type, std::set<std::string>& done, std::string& text) {
  if (!done.insert(type.full_name()).second) return;
  text += section_of(type);
  for (int i = 0; i < type.field_count(); ++i) {
    if (type.field(i)->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      append(*type.field(i)->message_type(), done, text);
    }
  }
}

}  // namespace

std::string config_reference() {
  DescriptorPool pool;
  build_pool(pool);
  std::string text =
      "# Config reference\n\n"
      "A config is a Protobuf text file of one [RunConfig](#runconfig); "
      "`--set path=value` changes single fields. A field without a default may be left out unless "
      "it is required. Ranges are intervals: `[` and `]` include the end, `(` and `)` do not.\n";
  std::set<std::string> done;
  append(*pool.FindMessageTypeByName(RunConfig::descriptor()->full_name()), done, text);
  text +=
      "\nA machine for `witan plan` is a file of one [MachineConfig](#machineconfig), with the "
      "same "
      "rules.\n";
  append(*pool.FindMessageTypeByName(MachineConfig::descriptor()->full_name()), done, text);
  return text;
}

}  // namespace witan::configs
