#include "configs/validate.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <cstdlib>

#include "configs/field_value.h"
#include "configs/schema/options.pb.h"

namespace witan::configs {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

// The numeric value of a field; index -1 unless it is repeated.
double number(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& r = *message.GetReflection();
  const bool one = index < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(one ? r.GetInt64(message, &field)
                                     : r.GetRepeatedInt64(message, &field, index));
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<double>(one ? r.GetUInt64(message, &field)
                                     : r.GetRepeatedUInt64(message, &field, index));
    case FieldDescriptor::CPPTYPE_INT32:
      return one ? r.GetInt32(message, &field) : r.GetRepeatedInt32(message, &field, index);
    case FieldDescriptor::CPPTYPE_UINT32:
      return one ? r.GetUInt32(message, &field) : r.GetRepeatedUInt32(message, &field, index);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return static_cast<double>(one ? r.GetFloat(message, &field)
                                     : r.GetRepeatedFloat(message, &field, index));
    default:
      return one ? r.GetDouble(message, &field) : r.GetRepeatedDouble(message, &field, index);
  }
}

void check_range(const Message& message, const FieldDescriptor& field, const std::string& path,
                 int index, Findings& findings) {
  const std::string& text = field.options().GetExtension(range);
  const std::optional<Range> admissible = parse_range(text);
  if (!admissible || admissible->contains(number(message, field, index))) return;
  std::string found;
  TextFormat::PrintFieldValueToString(message, &field, index, &found);
  findings.fail(path, found + " is out of range: expected " + expectation(field) + " in " + text);
}

void check_present(const FieldDescriptor& field, const std::string& path, Findings& findings) {
  // A value that could not be read has its error already.
  if (!field.options().GetExtension(required) || findings.written(path)) return;
  std::string what = expectation(field);
  if (field.options().HasExtension(range)) what += " in " + field.options().GetExtension(range);
  findings.fail(path, "missing: expected " + what);
}

int count_of(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  return field.is_repeated() ? reflection.FieldSize(message, &field)
                             : static_cast<int>(reflection.HasField(message, &field));
}

void check_exclusion(const Message& message, const FieldDescriptor& field, const std::string& path,
                     Findings& findings) {
  const FieldDescriptor* other = excluding_field(message, field);
  if (other == nullptr) return;
  findings.fail(path, "excluded by " + other->name() + ", which is written too: choose one");
}

void check_choice(const Message& message, const OneofDescriptor& choice, const std::string& path,
                  Findings& findings) {
  if (!choice.options().GetExtension(required_choice)) return;
  if (message.GetReflection()->HasOneof(message, &choice)) return;
  std::string names;
  for (int i = 0; i < choice.field_count(); ++i) {
    names += (i > 0 ? ", " : "") + choice.field(i)->name();
  }
  findings.fail(child_path(path, choice.name()), "missing: expected one of " + names);
}

}  // namespace

std::optional<Range> parse_range(const std::string& text) {
  const std::size_t comma = text.find(',');
  if (text.size() < 5 || comma == std::string::npos) return {};
  Range result;
  result.with_low = text.front() == '[';
  result.with_high = text.back() == ']';
  if ((!result.with_low && text.front() != '(') || (!result.with_high && text.back() != ')')) {
    return {};
  }
  const std::string low = text.substr(1, comma - 1);
  const std::string high = text.substr(comma + 1, text.size() - comma - 2);
  char* low_end = nullptr;
  char* high_end = nullptr;
  result.low = std::strtod(low.c_str(), &low_end);
  result.high = std::strtod(high.c_str(), &high_end);
  const bool whole = low_end == low.c_str() + low.size() && high_end == high.c_str() + high.size();
  if (!whole || low.empty() || high.empty() || !(result.low < result.high)) return {};
  return result;
}

const FieldDescriptor* excluding_field(const Message& message, const FieldDescriptor& field) {
  const std::string& name = field.options().GetExtension(excluded_by);
  if (name.empty()) return nullptr;
  const FieldDescriptor* other = message.GetDescriptor()->FindFieldByName(name);
  return other != nullptr && count_of(message, *other) > 0 ? other : nullptr;
}

void validate(const Message& message, const std::string& path, Findings& findings) {
  const Descriptor& type = *message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const bool repeated = field.is_repeated();
    const int count = count_of(message, field);
    if (count == 0) {
      check_present(field, child_path(path, field.name()), findings);
    } else {
      check_exclusion(message, field, child_path(path, field.name()), findings);
    }
    for (int j = 0; j < count; ++j) {
      const int index = repeated ? j : -1;
      const std::string child = child_path(path, field.name(), index);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        validate(repeated ? reflection.GetRepeatedMessage(message, &field, j)
                          : reflection.GetMessage(message, &field),
                 child, findings);
      } else if (field.options().HasExtension(range)) {
        check_range(message, field, child, index, findings);
      }
    }
  }
  for (int i = 0; i < type.real_oneof_decl_count(); ++i) {
    check_choice(message, *type.oneof_decl(i), path, findings);
  }
}

}  // namespace witan::configs
