#include "configs/text_parser.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <optional>
#include <set>

#include "configs/field_value.h"

namespace witan::configs {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::io::ArrayInputStream;
using google::protobuf::io::ColumnNumber;
using google::protobuf::io::ErrorCollector;
using google::protobuf::io::Tokenizer;

// Thrown at the first syntax error, caught at the parser's entry.
struct SyntaxError {};

class TextParser : private ErrorCollector {
 public:
  TextParser(const std::string& text, Origin::Kind kind, Findings& findings)
      : kind_(kind),
        findings_(findings),
        stream_(text.data(), static_cast<int>(text.size())),
        tokens_(&stream_, this) {
    tokens_.set_allow_f_after_float(true);
    tokens_.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
    tokens_.set_require_space_after_number(false);
    tokens_.Next();
  }

  void file(const std::string& path, Message& message) {
    fields(path, "", &message, *message.GetDescriptor());
  }

  // The value of an override: a block, or the fields of one without its braces.
  void block(const std::string& path, Message& message) {
    if (at("{") || at("<")) {
      braced(path, &message, *message.GetDescriptor());
    } else {
      file(path, message);
    }
    expect_end(path);
  }

  void list(const std::string& path, const FieldDescriptor& field, Message& message) {
    values(path, field, &message);
    expect_end(path);
  }

 private:
  // The tokenizer's own complaints: an unterminated string, a bad escape, a control character.
  void AddError(int line, ColumnNumber column, const std::string& message) override {
    findings_.fail("", message, {kind_, line_of(line), column + 1});
  }

  int line_of(int line) const { return kind_ == Origin::Kind::kFile ? line + 1 : 0; }
  Origin here() const {
    const Tokenizer::Token& token = tokens_.current();
    return {kind_, line_of(token.line), kind_ == Origin::Kind::kFile ? token.column + 1 : 0};
  }
  const std::string& text() const { return tokens_.current().text; }
  bool at(const char* symbol) const {
    return tokens_.current().type == Tokenizer::TYPE_SYMBOL && text() == symbol;
  }
  bool at_end() const { return tokens_.current().type == Tokenizer::TYPE_END; }
  bool take(const char* symbol) {
    if (!at(symbol)) return false;
    tokens_.Next();
    return true;
  }

  [[noreturn]] void syntax_error(const std::string& path, const std::string& expected) {
    findings_.fail(path, "expected " + expected + ", found " + (at_end() ? "the end" : text()),
                   here());
    throw SyntaxError{};
  }
  void expect_end(const std::string& path) {
    if (!at_end()) syntax_error(path, "the end");
  }

  // Fields up to `close` (empty: the end of the text). A null message reads and drops: the value of
  // an unknown field, or of one that is written twice.
  void fields(const std::string& path, const std::string& close, Message* message,
              const Descriptor& type) {
    std::set<std::string> seen;
    while (true) {
      if (close.empty() ? at_end() : take(close.c_str())) return;
      if (tokens_.current().type != Tokenizer::TYPE_IDENTIFIER) {
        syntax_error(path, close.empty() ? "a field name" : "a field name or " + close);
      }
      const std::string name = text();
      const Origin origin = here();
      tokens_.Next();
      const FieldDescriptor* field = type.FindFieldByName(name);
      if (field == nullptr) {
        findings_.fail_unknown(child_path(path, name), unknown_field(type, name), origin);
        skip_value(path);
      } else {
        Message* target = may_write(*field, path, origin, seen, message) ? message : nullptr;
        const bool colon = take(":");
        if (!colon && field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
          syntax_error(child_path(path, name), "a colon");
        }
        values(child_path(path, name), *field, target, origin);
      }
      if (!take(",")) take(";");
    }
  }

  // Whether a field may be written here: no field twice, no two members of a oneof.
  bool may_write(const FieldDescriptor& field, const std::string& path, const Origin& origin,
                 std::set<std::string>& seen, const Message* message) {
    if (message == nullptr) return false;
    if (field.is_repeated()) return true;
    const std::string child = child_path(path, field.name());
    if (!seen.insert(field.name()).second) {
      const Origin first = findings_.nearest(child);
      findings_.fail(child,
                     "written twice" +
                         (first.line > 0 ? ", first in line " + std::to_string(first.line) : "") +
                         "; one of them must go",
                     origin);
      return false;
    }
    const auto* choice = field.real_containing_oneof();
    if (choice == nullptr) return true;
    const FieldDescriptor* other =
        message->GetReflection()->GetOneofFieldDescriptor(*message, choice);
    if (other == nullptr || other == &field) return true;
    findings_.fail(child, "excludes " + other->name() + ", which is written too: choose one",
                   origin);
    return false;
  }

  // What follows a field's name: one value, or a list of a repeated field.
  void values(const std::string& path, const FieldDescriptor& field, Message* message,
              std::optional<Origin> origin = {}) {
    if (!field.is_repeated()) {
      if (at("[")) syntax_error(path, "one value, not a list");
      value(path, field, message, origin.value_or(here()));
      return;
    }
    if (!take("[")) {
      element(path, field, message, origin.value_or(here()));
      return;
    }
    while (!take("]")) {
      element(path, field, message, here());
      if (!take(",") && !at("]")) syntax_error(path, ", or ]");
    }
  }

  void element(const std::string& path, const FieldDescriptor& field, Message* message,
               const Origin& origin) {
    const int index = message ? message->GetReflection()->FieldSize(*message, &field) : 0;
    value(path + "[" + std::to_string(index) + "]", field, message, origin);
  }

  void value(const std::string& path, const FieldDescriptor& field, Message* message,
             const Origin& origin) {
    if (message != nullptr) findings_.wrote(path, origin);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message* child = nullptr;
      if (message != nullptr) {
        const Reflection* reflection = message->GetReflection();
        child = field.is_repeated() ? reflection->AddMessage(message, &field)
                                    : reflection->MutableMessage(message, &field);
      }
      if (!at("{") && !at("<")) syntax_error(path, expectation(field));
      braced(path, child, *field.message_type());
      return;
    }
    const Origin at_value = here();
    const std::string written = scalar_text(path, field);
    if (message == nullptr) return;
    const std::string why = set_scalar(field, written, *message);
    if (!why.empty()) findings_.fail(path, why, at_value);
  }

  void braced(const std::string& path, Message* message, const Descriptor& type) {
    const std::string close = at("{") ? "}" : ">";
    tokens_.Next();
    fields(path, close, message, type);
  }

  // A scalar as it is written: an identifier, a number, or neighbouring strings, which are joined.
  std::string scalar_text(const std::string& path, const FieldDescriptor& field) {
    std::string written;
    if (take("-")) written += '-';
    const Tokenizer::TokenType type = tokens_.current().type;
    if (type == Tokenizer::TYPE_SYMBOL || type == Tokenizer::TYPE_END) {
      syntax_error(path, expectation(field));
    }
    do {
      written += text();
      tokens_.Next();
    } while (type == Tokenizer::TYPE_STRING && tokens_.current().type == Tokenizer::TYPE_STRING);
    return written;
  }

  // The value of an unknown field, whatever it is, with balanced brackets.
  void skip_value(const std::string& path) {
    const bool colon = take(":");
    if (at("{") || at("<") || at("[")) {
      int depth = 0;
      do {
        if (at_end()) syntax_error(path, "a closing bracket");
        if (at("{") || at("<") || at("[")) ++depth;
        if (at("}") || at(">") || at("]")) --depth;
        tokens_.Next();
      } while (depth > 0);
      return;
    }
    if (!colon) syntax_error(path, "a colon or a block");
    take("-");
    if (at_end() || tokens_.current().type == Tokenizer::TYPE_SYMBOL) {
      syntax_error(path, "a value");
    }
    const Tokenizer::TokenType type = tokens_.current().type;
    do {
      tokens_.Next();
    } while (type == Tokenizer::TYPE_STRING && tokens_.current().type == Tokenizer::TYPE_STRING);
  }

  Origin::Kind kind_;
  Findings& findings_;
  ArrayInputStream stream_;
  mutable Tokenizer tokens_;  // current() is not const
};

}  // namespace

bool parse_text(const std::string& text, Origin::Kind kind, const std::string& path,
                Message& message, Findings& findings) {
  TextParser parser(text, kind, findings);
  try {
    if (kind == Origin::Kind::kFile) {
      parser.file(path, message);
    } else {
      parser.block(path, message);
    }
  } catch (const SyntaxError&) {  // it is among the findings
    return false;
  }
  return true;
}

void parse_list(const std::string& text, Origin::Kind kind, const std::string& path,
                const FieldDescriptor& field, Message& message, Findings& findings) {
  findings.forget(path);
  message.GetReflection()->ClearField(&message, &field);
  TextParser parser(text, kind, findings);
  try {
    parser.list(path, field, message);
  } catch (const SyntaxError&) {  // it is among the findings
  }
}

}  // namespace witan::configs
