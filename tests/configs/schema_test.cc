// What holds for every field of the schema, and the reference made from it.
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "configs/load.h"
#include "configs/schema/options.pb.h"
#include "configs/validate.h"

namespace witan::configs {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

void for_each_message(const Descriptor& type, std::set<const Descriptor*>& done,
                      const std::function<void(const Descriptor&)>& visit) {
  if (!done.insert(&type).second) return;
  visit(type);
  for (int i = 0; i < type.field_count(); ++i) {
    const Descriptor* sub = type.field(i)->message_type();
    if (sub != nullptr) for_each_message(*sub, done, visit);
  }
}

void for_each_field(const std::function<void(const FieldDescriptor&)>& visit) {
  std::set<const Descriptor*> done;
  for_each_message(*RunConfig::descriptor(), done, [&visit](const Descriptor& type) {
    for (int i = 0; i < type.field_count(); ++i) visit(*type.field(i));
  });
}

bool is_number(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
    case FieldDescriptor::CPPTYPE_ENUM:
    case FieldDescriptor::CPPTYPE_STRING:
    case FieldDescriptor::CPPTYPE_MESSAGE: return false;
    default: return true;
  }
}

double default_of(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64: return static_cast<double>(field.default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT64: return static_cast<double>(field.default_value_uint64());
    case FieldDescriptor::CPPTYPE_DOUBLE: return field.default_value_double();
    default: ADD_FAILURE() << field.full_name() << ": a type of number the schema has not used yet";
  }
  return 0.0;
}

// The lines of a message's section in the reference.
std::string section_of(const std::string& reference, const Descriptor& type) {
  const std::size_t begin = reference.find("\n## " + type.name() + "\n");
  if (begin == std::string::npos) return "";
  return reference.substr(begin, reference.find("\n## ", begin + 1) - begin);
}

TEST(Schema, EveryNumberHasARangeThatHoldsItsDefault) {
  for_each_field([](const FieldDescriptor& field) {
    if (!is_number(field)) {
      EXPECT_FALSE(field.options().HasExtension(range)) << field.full_name();
      return;
    }
    const auto interval = parse_range(field.options().GetExtension(range));
    ASSERT_TRUE(interval.has_value()) << field.full_name() << " has no range";
    if (field.has_default_value()) {
      EXPECT_TRUE(interval->contains(default_of(field))) << field.full_name();
    }
  });
}

TEST(Schema, RequiredFieldsHaveNoDefault) {
  for_each_field([](const FieldDescriptor& field) {
    if (!field.options().GetExtension(required)) return;
    EXPECT_FALSE(field.has_default_value()) << field.full_name();
    EXPECT_EQ(field.real_containing_oneof(), nullptr) << field.full_name();
  });
}

TEST(Schema, ExclusionsNameAFieldBeside) {
  for_each_field([](const FieldDescriptor& field) {
    const std::string& name = field.options().GetExtension(excluded_by);
    if (name.empty()) return;
    EXPECT_NE(field.containing_type()->FindFieldByName(name), nullptr) << field.full_name();
  });
}

// A bool without a default would silently be false.
TEST(Schema, EveryBoolHasADefault) {
  for_each_field([](const FieldDescriptor& field) {
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_BOOL || field.is_repeated()) return;
    EXPECT_TRUE(field.has_default_value()) << field.full_name();
  });
}

TEST(Reference, HasEveryFieldWithAComment) {
  const std::string reference = config_reference();
  for_each_field([&reference](const FieldDescriptor& field) {
    const std::string section = section_of(reference, *field.containing_type());
    const std::size_t begin = section.find("\n| `" + field.name() + "` | ");
    ASSERT_NE(begin, std::string::npos) << field.full_name() << " is not in the reference";
    const std::string row = section.substr(begin + 1, section.find('\n', begin + 1) - begin - 1);
    // | `name` | type | default | range | unit | meaning |
    std::size_t cell = 0;
    for (int bar = 0; bar < 6; ++bar) cell = row.find("| ", cell) + 2;
    const std::string meaning = row.substr(cell, row.size() - cell - 2);
    EXPECT_FALSE(meaning.empty() || meaning[0] == '(' || meaning[0] == '<')
        << field.full_name() << " has no comment: " << row;
    if (field.enum_type() == nullptr) return;
    for (int i = 0; i < field.enum_type()->value_count(); ++i) {
      EXPECT_NE(row.find("`" + field.enum_type()->value(i)->name() + "`"), std::string::npos)
          << field.full_name();
    }
  });
}

TEST(Reference, HasEveryMessageWithAComment) {
  const std::string reference = config_reference();
  std::set<const Descriptor*> done;
  for_each_message(*RunConfig::descriptor(), done, [&reference](const Descriptor& type) {
    const std::string heading = "\n## " + type.name() + "\n\n";
    const std::size_t begin = reference.find(heading);
    ASSERT_NE(begin, std::string::npos) << type.full_name();
    EXPECT_NE(reference[begin + heading.size()], '|') << type.full_name() << " has no comment";
  });
}

TEST(Reference, ShowsTypeDefaultRangeUnitAndValues) {
  const std::string reference = config_reference();
  EXPECT_NE(
      reference.find("| `steps` | int64 | 1000 | [0, inf) | steps | Optimizer steps in all. |"),
      std::string::npos);
  EXPECT_NE(reference.find("| `vocab_size` | int64 | required | [2, 16777216] | tokens | "),
            std::string::npos);
  EXPECT_NE(reference.find("| `balance` | list of [BalancerConfig](#balancerconfig) |  |  |  | "),
            std::string::npos);
  EXPECT_NE(reference.find("<br>`WSD`: lr, then a line down"), std::string::npos);
  EXPECT_NE(reference.find("`selection`: How experts are selected from score + expert bias. "
                           "Exactly one is required."),
            std::string::npos);
}

TEST(Range, Parses) {
  EXPECT_TRUE(parse_range("[0, 1)")->contains(0));
  EXPECT_FALSE(parse_range("[0, 1)")->contains(1));
  EXPECT_FALSE(parse_range("(0, 1]")->contains(0));
  EXPECT_TRUE(parse_range("(0, 1]")->contains(1));
  EXPECT_TRUE(parse_range("[-2.5, inf)")->contains(1e300));
  for (const char* text : {"", "0, 1", "[0 1]", "[1, 0]", "[a, 1]", "[0, 1", "[, 1]", "[0, ]"}) {
    EXPECT_FALSE(parse_range(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace witan::configs
