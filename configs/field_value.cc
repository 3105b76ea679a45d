#include "configs/field_value.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace witan::configs {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

// Keeps protobuf from writing its own message to standard error.
class Silent : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, google::protobuf::io::ColumnNumber, const std::string&) override {}
};

// Levenshtein distance; a letter in the other case counts as the same.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  const auto same = [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  };
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (same(a[i - 1], b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// The known name nearest to `name`; empty if none is near enough to be meant.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::vector<std::string> names_of(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  return names;
}

}  // namespace

std::string expectation(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: return "an integer of 32 bits";
    case FieldDescriptor::CPPTYPE_INT64: return "an integer";
    case FieldDescriptor::CPPTYPE_UINT32: return "a non-negative integer of 32 bits";
    case FieldDescriptor::CPPTYPE_UINT64: return "a non-negative integer of 64 bits";
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE: return "a number";
    case FieldDescriptor::CPPTYPE_BOOL: return "true or false";
    case FieldDescriptor::CPPTYPE_STRING: return "a string in quotes";
    case FieldDescriptor::CPPTYPE_ENUM: return "one of " + join(names_of(*field.enum_type()));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "a block { ... } of " + field.message_type()->name();
  }
  return "a value";
}

std::string set_scalar(const FieldDescriptor& field, const std::string& text, Message& message) {
  Silent silent;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&silent);
  if (parser.ParseFieldValueFromString(text, &field, &message)) return "";
  std::string why = "expected " + expectation(field) + ", found " + text;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    const std::string near = nearest_name(text, names_of(*field.enum_type()));
    if (!near.empty()) why += "; did you mean " + near + "?";
  }
  return why;
}

std::string unknown_field(const Descriptor& type, const std::string& name) {
  std::vector<std::string> known;
  for (int i = 0; i < type.field_count(); ++i) known.push_back(type.field(i)->name());
  const std::string near = nearest_name(name, known);
  if (!near.empty()) return "unknown field; did you mean " + near + "?";
  return "unknown field; " + type.name() + " has " + join(known);
}

}  // namespace witan::configs
