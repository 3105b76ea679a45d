#include "launch/checkpoint/config_diff.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <algorithm>

#include "core/base/error.h"

namespace witan {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

class Comparison {
 public:
  void compare(const Message& left, const Message& right, const std::string& path) {
    const google::protobuf::Descriptor& type = *left.GetDescriptor();
    WITAN_CHECK(&type == right.GetDescriptor(), "messages of two types: ", type.full_name(),
                " and ", right.GetDescriptor()->full_name());
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      const std::string name = path + "." + field.name();
      if (field.is_repeated()) {
        compare_repeated(left, right, field, name);
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        compare_messages(left, right, field, name);
      } else {
        compare_values(name, value(left, field, -1), value(right, field, -1));
      }
    }
  }

  std::vector<ConfigDifference> found;

 private:
  static std::string value(const Message& message, const FieldDescriptor& field, int index) {
    const Reflection& reflection = *message.GetReflection();
    if (index < 0 && !field.has_default_value() && !reflection.HasField(message, &field)) {
      return "(absent)";
    }
    std::string text;
    TextFormat::PrintFieldValueToString(message, &field, index, &text);
    return text;
  }

  void compare_values(const std::string& name, const std::string& left, const std::string& right) {
    if (left != right) found.push_back({name, left, right});
  }

  // Which member of a oneof is set is a choice; any other absent message stands for its defaults.
  void compare_messages(const Message& left, const Message& right, const FieldDescriptor& field,
                        const std::string& name) {
    const bool in_left = left.GetReflection()->HasField(left, &field);
    const bool in_right = right.GetReflection()->HasField(right, &field);
    if (!in_left && !in_right) return;
    if (in_left != in_right && field.containing_oneof() != nullptr) {
      compare_values(name, in_left ? "set" : "(absent)", in_right ? "set" : "(absent)");
      return;
    }
    compare(left.GetReflection()->GetMessage(left, &field),
            right.GetReflection()->GetMessage(right, &field), name);
  }

  void compare_repeated(const Message& left, const Message& right, const FieldDescriptor& field,
                        const std::string& name) {
    const int in_left = left.GetReflection()->FieldSize(left, &field);
    const int in_right = right.GetReflection()->FieldSize(right, &field);
    if (in_left != in_right) {
      compare_values(name, std::to_string(in_left) + " entries",
                     std::to_string(in_right) + " entries");
    }
    for (int i = 0; i < std::min(in_left, in_right); ++i) {
      const std::string element = name + "[" + std::to_string(i) + "]";
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        compare(left.GetReflection()->GetRepeatedMessage(left, &field, i),
                right.GetReflection()->GetRepeatedMessage(right, &field, i), element);
      } else {
        compare_values(element, value(left, field, i), value(right, field, i));
      }
    }
  }
};

}  // namespace

std::vector<ConfigDifference> config_differences(const Message& left, const Message& right,
                                                 const std::string& path) {
  Comparison comparison;
  comparison.compare(left, right, path);
  return std::move(comparison.found);
}

}  // namespace witan
